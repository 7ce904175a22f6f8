//! Signals: nothing half-written stays, and none is swallowed.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::program::{Folder, MODEL, PROGRAM, fixture};

fn send(signal: &str, child: &Child) {
    Command::new("bash").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
}

/// Starts a long job, sends it signals once it has begun its result, and gives its status, its words and the folder.
fn interrupted_by(signals: &[&str], more: &[&str]) -> (Option<i32>, String, Folder) {
    let folder = Folder::new();
    folder.write_samples("in.npy", 60_000);
    let mut child = Command::new(PROGRAM)
        .args(["explain", &fixture(MODEL), "in.npy", "-o", "out.npy", "--backend", "reference", "--target", "all"])
        .args(more)
        .current_dir(folder.path(""))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while folder.files() == ["in.npy"] && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for signal in signals {
        send(signal, &child);
        // Signals of one kind that come together are one.
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), folder)
}

#[test]
fn signals_leave_nothing_behind() {
    for signal in ["INT", "TERM", "HUP"] {
        let (status, words, folder) = interrupted_by(&[signal], &[]);
        assert_eq!(status, Some(1), "{signal}");
        assert!(words.contains("interrupted") && words.contains("help: "), "{signal}: {words}");
        assert_eq!(folder.files(), ["in.npy"], "{signal}");
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_leaves_nothing_behind() {
    // All samples in one block, which is long.
    let (status, _, folder) = interrupted_by(&["INT", "INT"], &["--batch-size", "60000", "--samples", "samples.jsonl"]);
    assert_eq!(status, Some(130));
    assert_eq!(folder.files(), ["in.npy"]);
}

#[test]
fn a_ctrl_c_near_the_end_is_not_swallowed() {
    let folder = Folder::new();
    let mut child = Command::new(PROGRAM)
        .args(["demo", "--images", "200", "--out", "results"])
        .current_dir(folder.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // All images are explained when their accuracy is told; comparison and drawing follow.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("accuracy")));
    send("INT", &child);
    lines.for_each(drop);
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{words}");
    assert!(words.contains("interrupted"), "{words}");
}

#[test]
fn a_ctrl_c_ends_a_benchmark_and_leaves_no_plot() {
    let folder = Folder::new();
    let mut child = Command::new(PROGRAM)
        .args(["bench", &fixture(MODEL), "--backend", "reference", "--batch-size", "512", "--repeats", "100000"])
        .args(["--plot", "speed.svg"])
        .current_dir(folder.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("checked reference")));
    send("INT", &child);
    let words: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{words:?}");
    assert!(words.iter().any(|line| line.contains("interrupted")), "{words:?}");
    assert_eq!(folder.files(), [""; 0]);
}

#[test]
fn a_killed_run_leaves_no_result_under_its_name() {
    let (status, _, folder) = interrupted_by(&["KILL"], &[]);
    assert_eq!(status, None);
    assert!(!folder.files().contains(&"out.npy".to_owned()));
}
