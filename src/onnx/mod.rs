//! ONNX files → [`Graph`]: the only room that knows protobuf and operator sets.
//!
//! The messages are decoded by `prost`: it is well kept, its recursion is limited, it accepts packed and unpacked
//! arrays, and with `Bytes` fields a tensor's raw data stays a slice of the file's one buffer. So at most the file
//! and its weights as float32 are in memory at once, and nothing is reserved for what a damaged file only claims.
//! (`rten-onnx`, the other candidate, has no dependency, but it leaves out model-local functions, refuses packed
//! attribute arrays and does not limit the depth of nested graphs.) Only the messages and fields that relprop reads
//! are declared, in `schema.rs`.

mod activations;
mod attributes;
mod functions;
mod import;
mod normalizations;
mod operators;
mod schema;
mod spatial;
mod tensors;

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;

/// Reads an ONNX file; external data is looked for in its folder.
///
/// ```no_run
/// use relprop::canonical::{Options, canonicalize};
///
/// let graph = relprop::onnx::load("model.onnx")?;
/// let network = canonicalize(&graph, &Options::default())?;
/// # Ok::<(), relprop::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Io`] if the file or its external data cannot be read, [`ErrorKind::Malformed`] if it is no ONNX
/// model, [`ErrorKind::Unsupported`] if its opset is none of 7 to 28.
pub fn load(path: impl AsRef<Path>) -> Result<Graph> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot read the model: {error}"))
            .context(path.display())
            .help("check the path and its permissions")
            .caused_by(error)
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse(bytes, Some(folder)).map_err(|error| error.context(path.display()))
}

/// Reads an ONNX model from its bytes; `folder` is where its external data lies, if it has any.
///
/// # Errors
/// As [`load`].
pub fn parse(bytes: Vec<u8>, folder: Option<&Path>) -> Result<Graph> {
    import::model(bytes.into(), folder)
}
