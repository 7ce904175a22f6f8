//! Compiled kernels that a folder keeps from one start to the next.

use std::path::{Path, PathBuf};

use relprop::wgpu::Features;

use super::*;

/// The bits of an explanation by a device of its own that keeps its kernels in a folder, and how many kernels it made.
fn explained(folder: &Path) -> (Vec<u32>, usize) {
    let gpu = Arc::new(open(|options| options.cache = Some(folder.to_owned())).unwrap());
    let network = Arc::new(mlp(91, &[12, 20, 5], Activation::Relu, true));
    let data = inputs(&network, 5, 92);
    let composite = Composite::preset("epsilon").unwrap();
    let found = explain(&network, &composite, in_pairs(&gpu), &data, &Request::new(Targets::ArgMax));
    (bits(&found), gpu.kernels())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

/// Whether the adapter lets a program keep pipelines.
fn keeps() -> bool {
    let name = device::options().adapter.unwrap().to_lowercase();
    let found = relprop::gpu::adapters(&DeviceOptions::default());
    let taken = found.iter().find(|adapter| adapter.to_string().to_lowercase().contains(&name)).unwrap();
    taken.features.contains(Features::PIPELINE_CACHE)
}

#[test]
fn a_second_start_adds_nothing_to_what_the_first_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("made/here");
    let first = explained(&place);
    let made = files(&place);
    assert_eq!(made.len(), usize::from(keeps()), "{made:?}");
    let bytes: Vec<_> = made.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let times: Vec<_> = made.iter().map(|file| file.metadata().unwrap().modified().unwrap()).collect();
    assert_eq!(explained(&place), first);
    assert_eq!(files(&place), made);
    for ((file, bytes), time) in made.iter().zip(bytes).zip(times) {
        assert!(std::fs::read(file).unwrap() == bytes, "the second start compiled what the file has");
        assert_eq!(file.metadata().unwrap().modified().unwrap(), time, "and wrote it again");
    }
}

#[test]
fn a_file_that_is_cut_changed_or_foreign_counts_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let expected = explained(folder.path());
    for file in files(folder.path()) {
        let whole = std::fs::read(&file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for broken in [Vec::new(), b"another program's".to_vec(), whole[..whole.len() - 1].to_vec(), changed] {
            std::fs::write(&file, &broken).unwrap();
            assert_eq!(explained(folder.path()), expected, "{} bytes", broken.len());
            assert!(std::fs::read(&file).unwrap().len() >= whole.len(), "it is made anew");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_costs_time_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(explained(&file.path().join("below a file")).0.len(), 5 * 12);
}
