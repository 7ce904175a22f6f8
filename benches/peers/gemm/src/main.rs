//! Dense layers of 1024 × 1024, 96 rows a call on each thread: relprop's forward pass beside `gemm` and `rten-gemm`.
//!
//!     cargo run --release --manifest-path benches/peers/gemm/Cargo.toml -- [THREADS]
//!
//! relprop's product is private, so it is timed through `Explainer::forward` of eight dense layers in a row; with so many,
//! reading the input and writing the answer weigh little. The crates do the same products, block of rows by block of rows,
//! between two buffers that stay in cache, as relprop does. Each gets the weight as it likes it best: `rten-gemm` packed
//! beforehand, while `gemm` has no such form. Both use AVX-512 where the machine has it, as relprop does.

use std::time::Instant;

use gemm::Parallelism;
use relprop::explain::Options;
use relprop::{Backend, Composite, Explainer, Input, Network, Tensor};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

const SIDE: usize = 1024;
const LAYERS: usize = 8;
const ROWS: usize = 96;
const BLOCKS: usize = 32;
const REPEATS: usize = 9;

fn number(index: usize) -> f32 {
    (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}

/// One product y = x Wᵀ of some rows, for the layer of a number.
type Product<'a> = dyn Fn(usize, &[f32], &mut [f32]) + Sync + 'a;

/// All layers for the rows of `x`.
fn chain(product: &Product, x: &[f32], y: &mut [f32], spare: &mut Vec<f32>) {
    spare.resize(x.len(), 0.0);
    product(0, x, y);
    for layer in 1..LAYERS {
        spare.copy_from_slice(y);
        product(layer, spare, y);
    }
}

/// All layers for all blocks of rows; each pool has one thread and takes every so-manieth block.
fn forward(product: &Product, x: &[f32], y: &mut [f32], pools: &[rayon::ThreadPool]) {
    let mut shares: Vec<Vec<(&[f32], &mut [f32])>> = pools.iter().map(|_| Vec::new()).collect();
    for (index, block) in x.chunks(ROWS * SIDE).zip(y.chunks_mut(ROWS * SIDE)).enumerate() {
        shares[index % pools.len()].push(block);
    }
    std::thread::scope(|scope| {
        for (pool, share) in pools.iter().zip(shares) {
            scope.spawn(move || {
                pool.install(|| {
                    let mut spare = Vec::new();
                    share.into_iter().for_each(|(x, y)| chain(product, x, y, &mut spare));
                });
            });
        }
    });
}

/// y = x Wᵀ by `gemm`; W is [outputs, inputs].
fn by_gemm(w: &[f32], x: &[f32], y: &mut [f32]) {
    let (rows, side) = (x.len() / SIDE, SIDE as isize);
    assert!(x.len() == rows * SIDE && y.len() == x.len() && w.len() == SIDE * SIDE);
    // SAFETY: the assertion above says that all three slices hold what the extents and strides reach.
    unsafe {
        gemm::gemm(
            rows, SIDE, SIDE,
            y.as_mut_ptr(), 1, side, false,
            x.as_ptr(), 1, side,
            w.as_ptr(), side, 1,
            0.0, 1.0, false, false, false, Parallelism::None,
        );
    }
}

/// y = x Wᵀ by `rten-gemm` on a packed weight.
fn by_rten(executor: &GemmExecutor, w: &PackedBMatrix<f32>, x: &[f32], y: &mut [f32]) {
    let x = NdTensorView::from_data([x.len() / SIDE, SIDE], x);
    executor
        .gemm(y, GemmInputA::Unpacked(x), GemmInputB::Packed(w), GemmOptions::default())
        .expect("the shapes fit");
}

fn explainer(weights: &[Vec<f32>], threads: usize) -> relprop::Result<Explainer> {
    let mut builder = Network::builder();
    let mut value = builder.input("x", [SIDE]);
    for weight in weights {
        value = builder.dense("fc", value, Tensor::new([SIDE, SIDE], weight.clone())?, None)?;
    }
    let options = Options { backend: Backend::Cpu, threads: Some(threads), ..Options::default() };
    Explainer::with_options(builder.build(value)?, &Composite::preset("epsilon")?, options)
}

/// |a − b| / |b|.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (apart / b.iter().map(|b| square(*b)).sum::<f64>()).sqrt()
}

fn main() -> relprop::Result<()> {
    let threads = std::env::args().nth(1).map_or(2, |text| text.parse().expect("THREADS is a number"));
    let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread starts");
    let pools: Vec<rayon::ThreadPool> = (0..threads).map(pool).collect();
    // About ±√3/32, so that values keep their size from layer to layer.
    let weight = |layer| (0..SIDE * SIDE).map(|index| number(index + 31 * layer) * 0.054).collect::<Vec<f32>>();
    let weights: Vec<Vec<f32>> = (0..LAYERS).map(weight).collect();
    let x = Tensor::from_fn([BLOCKS * ROWS, SIDE], |index| number(index + 7));

    let own = explainer(&weights, threads)?;
    let executor = GemmExecutor::<f32>::new();
    let pack = |w: &Vec<f32>| executor.prepack_b(NdTensorView::from_data([SIDE, SIDE], &w[..]).transposed());
    let packed: Vec<PackedBMatrix<f32>> = weights.iter().map(pack).collect();
    let gemm = |layer: usize, x: &[f32], y: &mut [f32]| by_gemm(&weights[layer], x, y);
    let rten = |layer: usize, x: &[f32], y: &mut [f32]| by_rten(&executor, &packed[layer], x, y);
    let run = |tool: usize, x: &Tensor, y: &mut Vec<f32>| -> relprop::Result<()> {
        match tool {
            0 => *y = own.forward(&[Input::from(x)])?.into_data(),
            1 => forward(&gemm, x.data(), y, &pools),
            _ => forward(&rten, x.data(), y, &pools),
        }
        Ok(())
    };

    let mut answers = vec![vec![0.0; x.count()]; 3];
    let mut best = [f64::INFINITY; 3];
    for _ in 0..REPEATS {
        for tool in 0..3 {
            let start = Instant::now();
            run(tool, &x, &mut answers[tool])?;
            best[tool] = best[tool].min(start.elapsed().as_secs_f64());
        }
    }

    let flop = 2.0 * (LAYERS * BLOCKS * ROWS * SIDE * SIDE) as f64;
    println!("{}; {LAYERS} × {SIDE} × {SIDE}, {ROWS} rows a call, best of {REPEATS}", own.adapter());
    println!("| product | GFLOP/s | of relprop's | difference | bits of 1, 7 and 95 rows are those among 96 |");
    println!("| --- | --- | --- | --- | --- |");
    let kernel = format!("rten-gemm 0.27, packed ({})", executor.kernel_name());
    for (tool, name) in ["relprop", "gemm 0.19", &kernel].into_iter().enumerate() {
        let mut same = Vec::new();
        for rows in [1, 7, 95] {
            let few = Tensor::new([rows, SIDE], x.data()[..rows * SIDE].to_vec())?;
            let mut answer = vec![0.0; few.count()];
            run(tool, &few, &mut answer)?;
            same.push(if answer == answers[tool][..few.count()] { "yes" } else { "no" });
        }
        let (speed, ratio) = (flop / best[tool] / 1e9, best[0] / best[tool]);
        let apart = difference(&answers[tool], &answers[0]);
        println!("| {name} | {speed:.0} | {ratio:.2} | {apart:.0e} | {} |", same.join(", "));
    }
    Ok(())
}
