//! Model-local functions: each call is replaced by the function's nodes, with names below the call's.

use std::collections::HashMap;

use prost::Message;

use super::schema::{AttributeProto, FunctionProto, NodeProto};
use crate::error::{Error, ErrorKind, Result};

/// More nodes than any real model has after inlining; nested calls could grow without bound.
const MAX_NODES: usize = 1 << 20;

/// Bytes of all bodies together that inlining may write: functions with large constants are not called that often.
const MAX_BYTES: usize = 1 << 28;

/// Deeper nesting of calls than any real exporter writes.
const MAX_DEPTH: usize = 64;

/// A node together with the operator sets of the function that it stands in; none for the model's own.
pub(super) struct Placed {
    pub node: NodeProto,
    /// The index of the function whose operator sets hold.
    pub function: Option<usize>,
}

/// Replaces calls of `functions` by their bodies.
///
/// # Errors
/// [`ErrorKind::Malformed`] if functions call themselves or grow beyond any real model.
pub(super) fn inline(nodes: Vec<NodeProto>, functions: &[FunctionProto]) -> Result<Vec<Placed>> {
    let by_name: HashMap<(&str, &str, &str), usize> = functions
        .iter()
        .enumerate()
        .map(|(index, f)| ((f.domain.as_str(), f.name.as_str(), f.overload.as_str()), index))
        .collect();
    let mut placed = Vec::with_capacity(nodes.len());
    let mut open: Vec<(Placed, usize)> =
        nodes.into_iter().rev().map(|node| (Placed { node, function: None }, 0)).collect();
    let sizes: Vec<usize> = functions.iter().map(|function| function.encoded_len()).collect();
    let (mut calls, mut bytes) = (0, 0_usize);
    while let Some((item, depth)) = open.pop() {
        let key = (item.node.domain.as_str(), item.node.op_type.as_str(), item.node.overload.as_str());
        let Some(&index) = by_name.get(&key) else {
            placed.push(item);
            continue;
        };
        bytes = bytes.saturating_add(sizes[index]);
        if depth >= MAX_DEPTH || bytes > MAX_BYTES || placed.len() + open.len() > MAX_NODES {
            let message = format!("the function `{}` calls itself or grows without bound", functions[index].name);
            return Err(Error::new(ErrorKind::Malformed, message)
                .at(item.node.name)
                .help("inline the model's functions with onnx.inliner, or export it again"));
        }
        calls += 1;
        let body = body_of_call(&item.node, &functions[index], calls);
        open.extend(body.into_iter().rev().map(|node| (Placed { node, function: Some(index) }, depth + 1)));
    }
    Ok(placed)
}

fn body_of_call(call: &NodeProto, function: &FunctionProto, number: usize) -> Vec<NodeProto> {
    let prefix = if call.name.is_empty() { format!("{}_{number}", call.op_type) } else { call.name.clone() };
    let mut names: HashMap<&str, String> = HashMap::new();
    for (index, input) in function.input.iter().enumerate() {
        names.insert(input, call.input.get(index).cloned().unwrap_or_default());
    }
    for (output, name) in function.output.iter().zip(&call.output) {
        if !name.is_empty() {
            names.insert(output, name.clone());
        }
    }
    let rename = |name: &String| -> String {
        if name.is_empty() {
            return String::new();
        }
        names.get(name.as_str()).cloned().unwrap_or_else(|| format!("{prefix}/{number}/{name}"))
    };
    let in_call = |node: &NodeProto| NodeProto {
        input: node.input.iter().map(rename).collect(),
        output: node.output.iter().map(rename).collect(),
        name: if node.name.is_empty() { prefix.clone() } else { format!("{prefix}/{}", node.name) },
        op_type: node.op_type.clone(),
        attribute: node.attribute.iter().filter_map(|attribute| resolve(attribute, call, function)).collect(),
        domain: node.domain.clone(),
        overload: node.overload.clone(),
    };
    function.node.iter().map(in_call).collect()
}

/// An attribute of a function's node, with a reference to the call's attributes replaced by what the call gives.
fn resolve(attribute: &AttributeProto, call: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    if attribute.ref_attr_name.is_empty() {
        return Some(attribute.clone());
    }
    let given = call.attribute.iter().chain(&function.attribute_proto);
    let found = given.into_iter().find(|candidate| candidate.name == attribute.ref_attr_name)?;
    Some(AttributeProto { name: attribute.name.clone(), ..found.clone() })
}
