//! `ModelProto` → [`Graph`].

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use prost::bytes::Buf;
use sha2::Digest;

use super::attributes::Attributes;
use super::functions::{self, Placed};
use super::operators::{self, Meaning};
use super::raw::Pieces;
use super::schema::{DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto};
use super::tensors::{self, DataType, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Constant, Dim, ElementType, Graph, Node};
use crate::tensor::Tensor;

/// The oldest version of ONNX's operator set whose semantics are read.
const OLDEST_OPSET: i64 = 7;

/// The newest version that models are tested with.
const TESTED_OPSET: i64 = 23;

/// The newest version that is read: after 23 the operators that relprop reads only got more element types.
const NEWEST_OPSET: i64 = 28;

pub(super) fn model<R: Read>(mut pieces: Pieces<R>, folder: Option<&Path>) -> Result<Graph> {
    let size = pieces.remaining();
    let model = ModelProto::decode(&mut pieces);
    let digest = pieces.finish().map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it became shorter while it was read; try again when it is whole",
            _ => "check the disk, or copy the file to another",
        };
        cannot_read(error).help(help)
    })?;
    let model = model.map_err(|error| {
        Error::new(ErrorKind::Malformed, format!("this is no ONNX model, or it is cut off or damaged: {error}"))
            .help(format!("the file has {size} bytes; compare with the original and copy or export it again"))
            .caused_by(error)
    })?;
    let proto = *model.graph.ok_or_else(|| {
        Error::new(ErrorKind::Malformed, "this is no ONNX model: it holds no graph")
            .help(format!("the file has {size} bytes; check that it is the .onnx file and not its external data"))
    })?;
    let opsets = Opsets::new(&model.opset_import);
    let mut graph = Graph::default();
    graph.producer = format!("{} {}", model.producer_name, model.producer_version).trim().to_owned();
    graph.opset = opsets.version("");
    graph.notes.extend(check_opset(graph.opset)?);
    let mut source = Source::new(folder, digest);
    let GraphProto { node, initializer, input, output, value_info, sparse_initializer } = proto;
    for value in input.iter().chain(&output).chain(&value_info) {
        declare(&mut graph, value);
    }
    let mut precision = [&input, &output, &value_info].into_iter().find_map(|values| declared_precision(values));
    for tensor in initializer {
        let name = tensor.fields.name.clone();
        let range = DataType::from_code(tensor.fields.data_type).range();
        let constant = tensors::read(tensor, &mut source)?;
        let id = graph.set_constant(&name, constant)?;
        graph.values[id.index()].range = range;
    }
    for sparse in sparse_initializer.into_iter().filter_map(|sparse| sparse.values) {
        let constant = Constant::Opaque { element: "sparse tensor".to_owned(), shape: Default::default() };
        graph.set_constant(&sparse.fields.name, constant)?;
    }
    let sets: Vec<Opsets> = model.functions.iter().map(|function| Opsets::new(&function.opset_import)).collect();
    for (index, placed) in functions::inline(node, &model.functions)?.into_iter().enumerate() {
        let opsets = placed.function.map_or(&opsets, |function| &sets[function]);
        precision = precision.or_else(|| cast_precision(&placed.node));
        add_node(&mut graph, placed, index, opsets, &mut source)?;
    }
    let note = |(name, value)| format!("the model computes `{value}` in {name}; relprop computes in float32");
    graph.notes.extend(precision.map(note));
    // Files before IR version 4 list their weights as inputs too.
    let inputs = input.iter().map(|value| graph.intern(&value.name));
    let inputs: Vec<_> = inputs.collect();
    graph.inputs = inputs.into_iter().filter(|&id| graph.value(id).constant.is_none()).collect();
    graph.outputs = output.iter().map(|value| graph.intern(&value.name)).collect();
    graph.digest = source.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(graph)
}

/// A model's file that is not to be read.
pub(super) fn cannot_read(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read the model: {error}")).caused_by(error)
}

/// Versions of operator sets by domain.
struct Opsets(HashMap<String, i64>);

impl Opsets {
    fn new(imports: &[OperatorSetIdProto]) -> Self {
        let standard = |domain: &str| if domain == "ai.onnx" { String::new() } else { domain.to_owned() };
        Opsets(imports.iter().map(|import| (standard(&import.domain), import.version)).collect())
    }

    /// The version of a domain; 1 where the model does not say.
    fn version(&self, domain: &str) -> i64 {
        let domain = if domain == "ai.onnx" { "" } else { domain };
        self.0.get(domain).copied().unwrap_or(1)
    }
}

/// Refuses opsets that are not read; a note for those that are not tested.
fn check_opset(opset: i64) -> Result<Option<String>> {
    const UNTESTED_OPSET: i64 = TESTED_OPSET + 1;
    let help = match opset {
        OLDEST_OPSET..=TESTED_OPSET => return Ok(None),
        UNTESTED_OPSET..=NEWEST_OPSET => {
            return Ok(Some(format!(
                "the model uses opset {opset}, which is newer than what relprop is tested with \
                 ({OLDEST_OPSET} to {TESTED_OPSET}); compare its outputs with onnxruntime's"
            )));
        }
        ..OLDEST_OPSET => "convert it with onnx.version_converter.convert_version, or export it with a newer opset",
        _ => "export it with an older opset, or use a newer relprop",
    };
    let message = format!("the model uses opset {opset}; relprop reads {OLDEST_OPSET} to {NEWEST_OPSET}");
    Err(Error::new(ErrorKind::Unsupported, message).help(help))
}

/// The first value that is declared in another precision than relprop computes in, with that precision.
fn declared_precision(values: &[ValueInfoProto]) -> Option<(&'static str, String)> {
    values.iter().find_map(|value| {
        let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
        Some((DataType::from_code(tensor.elem_type).other_precision()?, value.name.clone()))
    })
}

/// The precision that a cast leads to, if it is another than relprop computes in.
fn cast_precision(node: &NodeProto) -> Option<(&'static str, String)> {
    if node.op_type != "Cast" {
        return None;
    }
    let to = node.attribute.iter().find(|attribute| attribute.name == "to")?;
    let code = i32::try_from(to.i).ok()?;
    Some((DataType::from_code(code).other_precision()?, node.output.first()?.clone()))
}

fn declare(graph: &mut Graph, value: &ValueInfoProto) {
    let id = graph.intern(&value.name);
    let Some(TypeProto { tensor_type: Some(tensor) }) = &value.r#type else { return };
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| extent(dim.value.as_ref())).collect());
    graph.declare(id, DataType::from_code(tensor.elem_type).element(), dims);
}

fn extent(value: Option<&DimensionValue>) -> Dim {
    match value {
        Some(DimensionValue::Value(extent)) => usize::try_from(*extent).map_or(Dim::Unknown, Dim::Fixed),
        // Some exporters write `?` for every open axis.
        Some(DimensionValue::Param(name)) if name.contains(char::is_alphanumeric) => Dim::Named(name.clone()),
        Some(DimensionValue::Param(_)) | None => Dim::Unknown,
    }
}

fn add_node(graph: &mut Graph, placed: Placed, index: usize, opsets: &Opsets, source: &mut Source<'_>) -> Result<()> {
    let proto = placed.node;
    let name = if proto.name.is_empty() { format!("{}_{index}", proto.op_type) } else { proto.name };
    let opset = opsets.version(&proto.domain);
    let mut attributes = Attributes(proto.attribute);
    let held = attributes.0.iter().find_map(|attribute| attribute.t.as_ref());
    let range = held.and_then(|tensor| DataType::from_code(tensor.fields.data_type).range());
    let meaning = operators::read(&proto.domain, &proto.op_type, opset, &mut attributes, source)
        .map_err(|error| error.at(format!("{name} ({}, opset {opset})", proto.op_type)))?;
    let (op, moved) = match meaning {
        Meaning::Op(op) => (op, Vec::new()),
        Meaning::OpWithInputs(op, moved) => (op, moved),
        Meaning::Constant(constant) => {
            if let Some(output) = proto.output.first() {
                let element = match &constant {
                    Constant::Float(_) => ElementType::Float,
                    Constant::Integer(_) => ElementType::Integer,
                    Constant::Bool(_) => ElementType::Bool,
                    Constant::Opaque { .. } => ElementType::Unknown,
                };
                let id = graph.set_constant(output, constant)?;
                let value = &mut graph.values[id.index()];
                (value.element, value.range) = (element, range);
            }
            return Ok(());
        }
    };
    let mut named = |value: String| if value.is_empty() { None } else { Some(graph.intern(&value)) };
    let mut inputs: Vec<_> = proto.input.into_iter().map(&mut named).collect();
    let outputs = proto.output.into_iter().map(&mut named).collect();
    for values in moved {
        let constant = values.map(|values| Constant::Integer(Arc::new(Tensor::vector(values))));
        inputs.push(constant.map(|constant| graph.add_constant(&format!("{name}/attribute"), constant)));
    }
    let domain = if proto.domain == "ai.onnx" { String::new() } else { proto.domain };
    graph.nodes.push(Node { name, op, op_type: proto.op_type, domain, opset, inputs, outputs });
    Ok(())
}
