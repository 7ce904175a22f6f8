//! `relprop devices`, and backends by name.

use std::process::Command;

use crate::adapter;
use crate::program::{Folder, PROGRAM, Run};

fn with_interfaces(folder: &Folder, interfaces: &str, arguments: &[&str]) -> Run {
    folder.run(Command::new(PROGRAM).args(arguments).env("WGPU_BACKEND", interfaces))
}

/// An interface that this system does not have.
const ELSEWHERE: &str = if cfg!(target_os = "macos") { "vulkan" } else { "metal" };

#[test]
fn devices_lists_adapters_with_their_limits() {
    let devices = adapter::devices();
    let adapters = devices["adapters"].as_array().unwrap();
    assert!(!adapters.is_empty(), "no GPU adapter: run tests/run.sh, which installs a software driver");
    let text = Folder::new().relprop(&["devices"]).succeeds().stdout;
    for adapter in adapters {
        assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
        assert!(text.contains(adapter["type"].as_str().unwrap()), "{text}");
        let limit = |key: &str| adapter["limits"][key].as_u64().unwrap();
        // The least that WebGPU promises.
        assert!(limit("binding_bytes") >= 1 << 27 && limit("buffer_bytes") >= 1 << 28, "{adapter}");
        assert!(limit("workgroup_memory_bytes") >= 16384 && limit("workgroup_invocations") >= 256, "{adapter}");
        assert!(limit("storage_buffers_a_stage") >= 8 && limit("workgroups_a_dimension") >= 65535, "{adapter}");
    }
    for words in ["largest binding", "workgroups", "timestamps", "--backend auto takes", "--backend gpu:"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn auto_is_a_real_gpu_or_the_cpu() {
    let devices = adapter::devices();
    let adapters = devices["adapters"].as_array().unwrap();
    let real = adapters.iter().any(|adapter| adapter["is_software"] == false);
    assert_eq!(devices["auto"]["backend"], if real { "gpu" } else { "cpu" });
    assert_eq!(adapters.iter().filter(|adapter| adapter["automatic"] == true).count(), usize::from(real));
    let folder = Folder::new();
    folder.write_samples("in.npy", 2);
    folder.explain("in.npy", &["--report", "report.json"]).succeeds();
    let report = folder.json("report.json");
    assert_eq!((&report["backend"], &report["adapter"]), (&devices["auto"]["backend"], &devices["auto"]["adapter"]));
}

#[test]
fn without_adapters_devices_says_what_to_install() {
    let folder = Folder::new();
    let run = with_interfaces(&folder, ELSEWHERE, &["devices"]).succeeds();
    assert!(
        run.stdout.contains("takes the cpu backend") && run.stdout.contains("mesa-vulkan-drivers"),
        "{}",
        run.stdout
    );
    let json: serde_json::Value =
        serde_json::from_str(&with_interfaces(&folder, ELSEWHERE, &["devices", "--json"]).succeeds().stdout).unwrap();
    assert_eq!(json["adapters"], serde_json::json!([]));
}

#[test]
fn an_unknown_interface_is_wrong_usage() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 1);
    for command in [&["devices"][..], &["demo", "--images", "1"]] {
        let run = with_interfaces(&folder, "vulkan,directx", command);
        assert_eq!(run.status, 2, "{}", run.stderr);
        assert!(run.stderr.contains("directx") && run.stderr.contains("give vulkan"), "{}", run.stderr);
    }
}

#[test]
fn an_adapter_that_is_not_there_fails_and_names_those_that_are() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 1);
    let run = folder.explain("in.npy", &["--backend", "gpu:abacus"]);
    assert_eq!(run.status, 1);
    let first = adapter::devices()["adapters"][0]["name"].as_str().unwrap().to_owned();
    assert!(run.stderr.contains("abacus") && run.stderr.contains(&first), "{}", run.stderr);
    assert!(!folder.files().contains(&"out.npy".to_owned()));
    let run = folder.explain("in.npy", &["--backend", "warp"]);
    assert!(run.status == 2 && run.stderr.contains("gpu:NAME"), "{}", run.stderr);
}

#[test]
fn a_plain_gpu_is_never_a_software_adapter() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 1);
    let run = with_interfaces(
        &folder,
        ELSEWHERE,
        &["bench", &crate::program::fixture(crate::program::MODEL), "--backend", "gpu"],
    );
    assert_eq!(run.status, 1);
    let real = adapter::devices()["auto"]["backend"] == "gpu";
    let run = folder.explain("in.npy", &["--backend", "gpu"]);
    assert_eq!(run.status, i32::from(!real), "{}", run.stderr);
}
