//! Runs the program in a folder of its own and reads what it left there.

use std::path::{Path, PathBuf};
use std::process::Command;

use relprop::Tensor;
use relprop::input::{Array, read_npy};
use relprop::output::{Precision, write_npy};

/// The binary under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_relprop");
/// An MLP with 20 pixels in, [N, 1, 4, 5], and 5 classes out, behind a softmax.
pub const MODEL: &str = "onnx/mlp_softmax_legacy.onnx";

/// A file of the fixtures.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    assert!(path.exists(), "{}", path.display());
    path.to_str().expect("a path of text").to_owned()
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }
}

/// A folder that is removed in the end.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program here; it never panics.
    #[track_caller]
    pub fn relprop(&self, arguments: &[&str]) -> Run {
        self.run(Command::new(PROGRAM).args(arguments))
    }

    /// Runs a command here. Mesa's driver complains on stderr where there is no folder for what is of this session only.
    #[track_caller]
    pub fn run(&self, command: &mut Command) -> Run {
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            command.env("XDG_RUNTIME_DIR", self.0.path());
        }
        if command.get_envs().all(|(name, _)| name != "RELPROP_CACHE") {
            command.env("RELPROP_CACHE", self.0.path().join("cache"));
        }
        let output = command.current_dir(self.0.path()).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let run = Run {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        run
    }

    /// Explains `input` with the model of these tests into out.npy.
    #[track_caller]
    pub fn explain(&self, input: &str, more: &[&str]) -> Run {
        let model = fixture(MODEL);
        self.relprop(&[&["explain", &model, input, "-o", "out.npy"], more].concat())
    }

    pub fn write(&self, name: &str, shape: &[usize], data: Vec<f32>) {
        let tensor = Tensor::new(shape, data).expect("as many values as the shape has");
        write_npy(&self.path(name), &tensor, Precision::F32).expect("a file");
    }

    /// Writes samples for the model of these tests.
    pub fn write_samples(&self, name: &str, samples: usize) -> Tensor {
        let tensor = Tensor::from_fn([samples, 1, 4, 5], |i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * 1.5);
        write_npy(&self.path(name), &tensor, Precision::F32).expect("a file");
        tensor
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> Tensor {
        read_npy(&self.path(name)).map(Array::into_f32).expect("a readable array")
    }

    #[track_caller]
    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(name)).expect("JSON")
    }

    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file of text")
    }

    /// The names of all files here.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }
}

/// A `.npy` file of bytes.
pub fn npy_of_bytes(shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
    header.extend(std::iter::repeat_n(' ', 128 - 11 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(data);
    bytes
}
