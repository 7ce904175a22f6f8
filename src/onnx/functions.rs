//! Model-local functions: each call is replaced by the function's nodes, with names below the call's.

use std::collections::HashMap;

use prost::Message;

use super::schema::{AttributeProto, FunctionProto, NodeProto};
use crate::error::{Error, ErrorKind, Result};

/// More nodes than any real model has after inlining; nested calls could grow without bound.
const MAX_NODES: usize = 1 << 20;

/// Bytes that inlining may write in all: neither long names nor large constants are repeated that often.
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
    let (mut calls, mut bytes) = (0, 0_usize);
    while let Some((item, depth)) = open.pop() {
        let key = (item.node.domain.as_str(), item.node.op_type.as_str(), item.node.overload.as_str());
        let Some(&index) = by_name.get(&key) else {
            placed.push(item);
            continue;
        };
        let function = &functions[index];
        calls += 1;
        let call = Call::new(&item.node, function, calls);
        // Charged before anything is built: a call's long name is repeated in every value of the body.
        bytes = bytes.saturating_add(call.written(function));
        let nodes = placed.len() + open.len() + function.node.len();
        if depth >= MAX_DEPTH || bytes > MAX_BYTES || nodes > MAX_NODES {
            let message = format!("the function `{}` calls itself or grows without bound", function.name);
            return Err(Error::new(ErrorKind::Malformed, message)
                .at(shortened(&item.node.name))
                .help("inline the model's functions with onnx.inliner, or export it again"));
        }
        let body = call.body(function);
        open.extend(body.into_iter().rev().map(|node| (Placed { node, function: Some(index) }, depth + 1)));
    }
    Ok(placed)
}

/// A name as far as a message shows it.
fn shortened(name: &str) -> String {
    const SHOWN: usize = 120;
    if name.chars().nth(SHOWN).is_none() { name.to_owned() } else { name.chars().take(SHOWN).chain(['…']).collect() }
}

/// What a call puts in the place of its function's names.
struct Call<'a> {
    /// What names inside the body start with.
    prefix: String,
    number: usize,
    /// The call's values by the function's names for them.
    names: HashMap<&'a str, &'a str>,
    /// What attributes of the body may refer to.
    attributes: HashMap<&'a str, &'a AttributeProto>,
}

impl<'a> Call<'a> {
    fn new(call: &'a NodeProto, function: &'a FunctionProto, number: usize) -> Self {
        let prefix = if call.name.is_empty() { format!("{}_{number}", call.op_type) } else { call.name.clone() };
        let mut names: HashMap<&str, &str> = HashMap::new();
        for (index, input) in function.input.iter().enumerate() {
            names.insert(input, call.input.get(index).map_or("", String::as_str));
        }
        for (output, name) in function.output.iter().zip(&call.output) {
            if !name.is_empty() {
                names.insert(output, name);
            }
        }
        // The call's own attributes come last, so that they replace the function's defaults.
        let attributes = function.attribute_proto.iter().chain(call.attribute.iter().rev());
        let attributes = attributes.map(|attribute| (attribute.name.as_str(), attribute)).collect();
        Call { prefix, number, names, attributes }
    }

    /// The bytes that the call and its [`Call::body`] hold, from above.
    fn written(&self, function: &FunctionProto) -> usize {
        const DIGITS: usize = 20;
        let inside = |name: &str| self.prefix.len() + name.len() + DIGITS + 2;
        let value = |name: &String| {
            let length = self.names.get(name.as_str()).map_or_else(|| inside(name), |given| given.len());
            size_of::<String>() + if name.is_empty() { 0 } else { length }
        };
        let attribute = |attribute: &AttributeProto| match self.source(attribute) {
            Some(found) => size_of::<AttributeProto>() + attribute.name.len() + found.encoded_len(),
            None => size_of::<AttributeProto>(),
        };
        let node = |node: &NodeProto| {
            let values: usize = node.input.iter().chain(&node.output).map(value).sum();
            let attributes: usize = node.attribute.iter().map(attribute).sum();
            let kept = node.op_type.len() + node.domain.len() + node.overload.len();
            size_of::<NodeProto>() + inside(&node.name) + values + attributes + kept
        };
        let looked_up = (self.names.len() + self.attributes.len()) * size_of::<(&str, &str)>();
        function.node.iter().map(node).fold(looked_up, usize::saturating_add)
    }

    /// The function's nodes under the call's names.
    fn body(&self, function: &FunctionProto) -> Vec<NodeProto> {
        let prefix = &self.prefix;
        let rename = |name: &String| match self.names.get(name.as_str()) {
            _ if name.is_empty() => String::new(),
            Some(given) => (*given).to_owned(),
            None => format!("{prefix}/{}/{name}", self.number),
        };
        let in_call = |node: &NodeProto| NodeProto {
            input: node.input.iter().map(rename).collect(),
            output: node.output.iter().map(rename).collect(),
            name: if node.name.is_empty() { prefix.clone() } else { format!("{prefix}/{}", node.name) },
            op_type: node.op_type.clone(),
            attribute: node.attribute.iter().filter_map(|attribute| self.resolve(attribute)).collect(),
            domain: node.domain.clone(),
            overload: node.overload.clone(),
        };
        function.node.iter().map(in_call).collect()
    }

    /// An attribute of the body, with a reference to the call's attributes replaced by what the call gives.
    fn resolve(&self, attribute: &AttributeProto) -> Option<AttributeProto> {
        let found = self.source(attribute)?;
        Some(AttributeProto { name: attribute.name.clone(), ..found.clone() })
    }

    /// The attribute itself, or the one that it refers to.
    fn source<'b>(&self, attribute: &'b AttributeProto) -> Option<&'b AttributeProto>
    where
        'a: 'b,
    {
        match attribute.ref_attr_name.as_str() {
            "" => Some(attribute),
            name => self.attributes.get(name).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: op_type.to_owned(),
            name: name.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: outputs.iter().map(|&output| output.to_owned()).collect(),
            ..NodeProto::default()
        }
    }

    fn function(nodes: Vec<NodeProto>) -> FunctionProto {
        FunctionProto {
            name: "Block".to_owned(),
            input: vec!["a".to_owned()],
            output: vec!["b".to_owned()],
            node: nodes,
            ..FunctionProto::default()
        }
    }

    #[test]
    fn long_names_are_charged_for_every_value_that_repeats_them() {
        let blocks = [function((0..20_000).map(|_| node("Relu", "", &["c"], &["d"])).collect())];
        let by_prefix = node("Block", &"n".repeat(20_000), &["x"], &["y"]);
        let error = inline(vec![by_prefix], &blocks).err().unwrap();
        assert!(error.message().contains("grows without bound") && error.to_string().len() < 1000, "{error}");
        let reads_input = [function((0..20_000).map(|_| node("Relu", "", &["a"], &["d"])).collect())];
        let by_input = node("Block", "", &[&"x".repeat(20_000)], &["y"]);
        assert!(inline(vec![by_input], &reads_input).is_err());
    }

    #[test]
    fn no_call_writes_more_than_it_is_charged_for() {
        let block = function(vec![node("Relu", "r", &["a", ""], &["c"]), node("Tanh", "", &["c"], &["b"])]);
        for name in ["", "call"] {
            let call = node("Block", name, &["x"], &["y"]);
            let call = Call::new(&call, &block, 7);
            let length: usize = call.body(&block).iter().map(Message::encoded_len).sum();
            assert!(call.written(&block) >= length);
        }
    }
}
