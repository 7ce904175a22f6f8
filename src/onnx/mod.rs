//! ONNX files → [`Graph`]: the only room that knows protobuf and operator sets.
//!
//! The messages are decoded by `prost`: it is well kept, its recursion is limited, it accepts packed and unpacked
//! arrays, and it reads from whatever gives bytes piece by piece: float32 weights become numbers while the file passes
//! by, so that they are in memory once (`raw.rs`), and nothing is reserved for what a damaged file only claims.
//! (`rten-onnx`, the other candidate, has no dependency, but it leaves out model-local functions, refuses packed
//! attribute arrays and does not limit the depth of nested graphs.) Only the messages and fields that relprop reads
//! are declared, in `schema.rs`.

mod activations;
mod attributes;
mod functions;
mod import;
mod normalizations;
mod operators;
mod raw;
mod schema;
mod spatial;
mod tensors;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Result;
use crate::graph::Graph;

use raw::Pieces;

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
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file or its external data cannot be read,
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if it is no ONNX model,
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if its opset is none of 7 to 28.
pub fn load(path: impl AsRef<Path>) -> Result<Graph> {
    let path = path.as_ref();
    let cannot_read =
        |error| import::cannot_read(error).context(path.display()).help("check the path and its permissions");
    let file = File::open(path).map_err(cannot_read)?;
    let metadata = file.metadata().map_err(cannot_read)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let graph = if metadata.is_file() && metadata.len() > 0 {
        import::model(Pieces::new(&file, metadata.len()), Some(folder))
    } else {
        // A pipe does not say how much will come, nor do some files that are none.
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(cannot_read)?;
        parse(bytes, Some(folder))
    };
    graph.map_err(|error| error.context(path.display()))
}

/// Reads an ONNX model from its bytes; `folder` is where its external data lies, if it has any.
///
/// # Errors
/// As [`load`].
pub fn parse(bytes: Vec<u8>, folder: Option<&Path>) -> Result<Graph> {
    import::model(Pieces::new(&bytes[..], bytes.len() as u64), folder)
}
