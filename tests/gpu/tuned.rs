//! Kernels that were timed: choices are kept, taken, and change no bit.

use std::collections::BTreeMap;
use std::path::Path;

use relprop::ErrorKind;
use relprop::gpu::{Clock, ProductKind, ProductShape, Tuned, Tuning};
use relprop::kernels::{DeviceKind, Direction, Tiling};
use relprop::layers::{Window, WindowAxis};

use super::texts::{texts, textual};
use super::*;

/// The samples that products are tuned for here: too many for the kernel for few rows.
const SAMPLES: usize = 16;

/// A convolution and nothing else: every text takes a software adapter a while.
fn network() -> Arc<Network> {
    let mut numbers = Numbers(301);
    let mut builder = Network::builder();
    let x = builder.input("x", [2, 5, 5]);
    let window = Window::new(vec![WindowAxis::new(3); 2]).unwrap();
    let z = builder.conv("conv", x, numbers.tensor(&[4, 2, 3, 3]), Some(numbers.tensor(&[4])), window, 1).unwrap();
    let z = builder.reshape("flat", z, [36]).unwrap();
    Arc::new(builder.build(z).unwrap())
}

fn epsilon() -> Composite {
    Composite::preset("epsilon").unwrap()
}

/// The products of that network's explanation: nine pixels a sample forward, 25 back.
fn shapes(samples: usize) -> [ProductShape; 2] {
    let forward = ProductShape {
        kind: ProductKind::Convolution,
        direction: Direction::Forward,
        rows: (9 * samples).next_power_of_two(),
        depth: 2,
        columns: 4,
        taps: 9,
        units: 1,
    };
    let rows = (25 * samples).next_power_of_two();
    [forward, ProductShape { direction: Direction::Backward, rows, depth: 4, columns: 2, ..forward }]
}

fn choose(samples: usize, tiling: Tiling) -> Vec<Tuned> {
    shapes(samples).map(|shape| Tuned { shape, tiling }).to_vec()
}

fn of(tile: Tile) -> Tiling {
    Tiling::INTERCHANGEABLE.into_iter().find(|tiling| tiling.tile == tile).unwrap()
}

fn kept_in(folder: &Path) -> Arc<Gpu> {
    Arc::new(open(|options| options.cache = Some(folder.to_owned())).unwrap())
}

fn sorted(mut choices: Vec<Tuned>) -> Vec<Tuned> {
    choices.sort_by_key(|choice| choice.shape);
    choices
}

fn tune(gpu: &Arc<Gpu>, clock: Clock) -> Tuning {
    let network = network();
    let explainer = explainer(&network, &epsilon(), Options { batch_size: Some(SAMPLES), ..on(gpu) });
    let data = inputs(&network, SAMPLES, 302);
    let mut told = Vec::new();
    let mut heed = |done, shapes| {
        told.push((done, shapes));
        Ok(())
    };
    let tuning = explainer.tune(&borrowed(&data), &Request::new(Targets::ArgMax), clock, &mut heed).unwrap();
    assert!(told.contains(&(0, 2)) && told.contains(&(1, 2)), "{told:?}");
    tuning
}

fn explained(gpu: &Arc<Gpu>, samples: usize, batch_size: usize) -> Relevance {
    let network = network();
    let options = Options { batch_size: Some(batch_size), ..on(gpu) };
    explain(&network, &epsilon(), options, &inputs(&network, samples, 303), &Request::new(Targets::ArgMax))
}

#[test]
fn every_candidate_is_compared_and_timed_and_the_fastest_is_kept_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = kept_in(folder.path());
    assert_eq!(gpu.choices(), []);
    for clock in [Clock::Host, Clock::Device] {
        let tuning = tune(&gpu, clock);
        assert!(tuning.clock == clock || !gpu.device().features().contains(relprop::wgpu::Features::TIMESTAMP_QUERY));
        assert_eq!((tuning.samples, tuning.without_choice), (SAMPLES, 0));
        assert!(tuning.path.as_ref().unwrap().starts_with(folder.path()));
        assert_eq!(tuning.products.iter().map(|product| product.shape).collect::<Vec<_>>(), shapes(SAMPLES));
        for product in &tuning.products {
            assert_eq!((product.layer.as_str(), product.dispatches), ("conv", 1));
            let tilings: Vec<Tiling> = product.candidates.iter().map(|candidate| candidate.tiling).collect();
            assert!(
                tilings.iter().copied().eq(Tiling::candidates(product.shape.columns, DeviceKind::of(gpu.info()))),
                "{tilings:?}"
            );
            for candidate in &product.candidates {
                assert_eq!(candidate.difference, 0.0, "{candidate:?}");
                assert!(candidate.seconds.is_some_and(|seconds| seconds > 0.0), "{candidate:?}");
            }
            assert!(product.seconds_after() <= product.seconds_before(), "{product:?}");
        }
        let chosen = tuning
            .products
            .iter()
            .map(|product| Tuned { shape: product.shape, tiling: product.candidates[product.choice].tiling });
        assert_eq!(sorted(gpu.choices()), sorted(chosen.collect()));
    }
    let again = kept_in(folder.path());
    assert_eq!(sorted(again.choices()), sorted(gpu.choices()));
    assert_eq!(bits(&explained(&again, SAMPLES, SAMPLES)), bits(&explained(&device::shared(), SAMPLES, SAMPLES)));
}

#[test]
fn bits_are_those_without_choices_whatever_batch_a_sample_is_in() {
    let gpu = Arc::new(open(|_| {}).unwrap());
    let expected = bits(&explained(&device::shared(), 21, 16));
    // Each number of samples runs on other kernels: chunks of 16, 5, 2 and 1.
    let choices = [(16, of(Tile::Small)), (5, of(Tile::Medium)), (2, Tiling { tile: Tile::Free, rows: 8 })];
    choices.into_iter().for_each(|(samples, tiling)| gpu.adopt(&choose(samples, tiling)).unwrap());
    for batch_size in [16, 5, 2] {
        assert!(bits(&explained(&gpu, 21, batch_size)) == expected, "batches of {batch_size}");
    }
}

/// The texts of a device that explains so many samples under these choices.
fn texts_with(samples: usize, choices: &[Tuned], tile: Option<Tile>) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let gpu = textual(|options| {
        options.dump_shaders = Some(folder.path().to_owned());
        options.tile = tile;
    });
    gpu.adopt(choices).unwrap();
    explained(&gpu, samples, 64);
    texts(folder.path())
}

#[test]
fn the_kernel_that_was_chosen_is_the_one_that_runs() {
    let products = |texts: &BTreeMap<String, String>| {
        let names = texts.keys().filter(|name| name.starts_with("convolve"));
        names.cloned().collect::<Vec<_>>()
    };
    let by_rule = texts_with(SAMPLES, &[], None);
    assert_eq!(products(&by_rule).len(), 2);
    // The adapter that computes nothing counts as software, for which the rules take the shape that is not here.
    for tile in [Tile::Large, Tile::Medium, Tile::Small, Tile::Narrow, Tile::Free] {
        let chosen = texts_with(SAMPLES, &choose(SAMPLES, of(tile)), None);
        assert_ne!(products(&chosen), products(&by_rule), "{tile:?}");
        assert_eq!(chosen, texts_with(SAMPLES, &[], Some(tile)), "{tile:?}");
    }
    // Batches that are nearly as large share a choice, others take what they would without it.
    let choices = choose(SAMPLES, of(Tile::Medium));
    assert_eq!(texts_with(15, &choices, None), texts_with(SAMPLES, &choices, None));
    assert_eq!(texts_with(4, &choices, None), texts_with(4, &[], None));
    // Who forces a tile gets it.
    let forced = texts_with(SAMPLES, &choices, Some(Tile::Large));
    assert_eq!(forced, texts_with(SAMPLES, &[], Some(Tile::Large)));
}

#[test]
fn a_file_of_choices_that_is_cut_changed_or_foreign_counts_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let start = || textual(|options| options.cache = Some(folder.path().to_owned()));
    let choices = choose(SAMPLES, of(Tile::Medium));
    start().adopt(&choices).unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let whole = std::fs::read(file).unwrap();
    assert_eq!(sorted(start().choices()), sorted(choices.clone()));
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for broken in [Vec::new(), b"another program's".to_vec(), whole[..whole.len() - 1].to_vec(), changed] {
        std::fs::write(file, &broken).unwrap();
        let gpu = start();
        assert_eq!(gpu.choices(), [], "{} bytes", broken.len());
        gpu.adopt(&choices).unwrap();
        assert!(std::fs::read(file).unwrap() == whole, "it is made anew");
    }
}

#[test]
fn what_cannot_be_tuned_or_kept_is_told() {
    let (network, data) = (network(), inputs(&network(), 2, 304));
    let tune = |options: Options, heed: &mut dyn FnMut(usize, usize) -> relprop::Result<()>| {
        let request = Request::new(Targets::ArgMax);
        explainer(&network, &epsilon(), options).tune(&borrowed(&data), &request, Clock::Device, heed)
    };
    assert_eq!(tune(by(Backend::Cpu), &mut |_, _| Ok(())).unwrap_err().kind(), ErrorKind::Unsupported);
    let mut stop = |_, _| Err(relprop::Error::new(ErrorKind::Data, "enough"));
    assert_eq!(tune(in_pairs(&device::shared()), &mut stop).unwrap_err().message(), "enough");

    let file = tempfile::NamedTempFile::new().unwrap();
    let gpu = textual(|options| options.cache = Some(file.path().join("below a file")));
    let choices = choose(SAMPLES, of(Tile::Medium));
    let error = gpu.adopt(&choices).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.message().contains("below a file"), "{error}");
    assert_eq!(sorted(gpu.choices()), sorted(choices), "this start has them");
    let few = Tiling { tile: Tile::Few, rows: 8 };
    assert_eq!(gpu.adopt(&choose(SAMPLES, few)).unwrap_err().kind(), ErrorKind::Argument);
}
