//! The demo's table: every backend of this machine on the same images.

use std::sync::Arc;
use std::time::Instant;

use relprop::{Composite, Explainer, Input, Network, Relevance, Result, Targets};

use super::agreement::{distances, median_and_worst};
use super::backends::{Candidate, candidates};
use super::console::{Console, thousands};
use super::demo::Data;
use super::interrupt;
use super::table::table;

/// Seconds that the timed run of a backend takes, about: a slow one explains fewer images.
const SECONDS: f64 = 0.7;

/// A table with a row a backend: how fast it is, and how closely it agrees with `expected`, which is of the first images.
///
/// # Errors
/// If the environment asks for devices that there are not, or Ctrl-C came. A backend that fails has a note in its row.
pub fn compare(network: &Arc<Network>, composite: &Composite, data: &Data, expected: &Relevance) -> Result<String> {
    let candidates = candidates()?;
    let head = ["backend", "on", "images", "images/s", "median", "worst of float64"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let activity = Console::new(false).activity();
    for candidate in &candidates {
        activity.set_message(format!("{} explains", candidate.choice));
        activity.tick();
        let row = row(candidate, network, composite, data, expected);
        interrupt::check()?;
        rows.push(row.unwrap_or_else(|error| {
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            let none = || "–".to_owned();
            vec![candidate.choice.backend.to_string(), format!("fails: {reason}"), none(), none(), none(), none()]
        }));
    }
    activity.finish_and_clear();
    let hint = match candidates.as_slice() {
        [_] => "\n  There is no GPU adapter: `relprop devices` says what to install for one.\n",
        _ => "",
    };
    Ok(format!("\nEvery backend of this machine, the one that `auto` takes first:\n\n{}{hint}", table(&rows)))
}

fn row(
    candidate: &Candidate,
    network: &Arc<Network>,
    composite: &Composite,
    data: &Data,
    expected: &Relevance,
) -> Result<Vec<String>> {
    let explainer = Explainer::with_options(network.clone(), composite, candidate.choice.options()?)?;
    let compared = expected.targets.rows();
    let targets = Targets::Each(expected.targets.data().to_vec());
    let first = data.block(0, compared)?;
    let (relevance, _) = timed(&explainer, &first, &targets)?;
    let (median, worst) = median_and_worst(distances(&relevance, expected));
    // The first run of all compiles and allocates; this one tells how many images fit into the time.
    let (_, seconds) = timed(&explainer, &first, &Targets::ArgMax)?;
    let most = data.labels.len();
    let images = ((SECONDS / seconds * compared as f64) as usize).clamp(compared, most);
    let all = data.block(0, images)?;
    let (_, seconds) = timed(&explainer, &all, &Targets::ArgMax)?;
    let software = if candidate.is_software { ", a software adapter" } else { "" };
    Ok(vec![
        candidate.choice.backend.to_string(),
        format!("{}{software}", explainer.adapter()),
        thousands(images),
        thousands((images as f64 / seconds).round() as usize),
        format!("{median:.1e}"),
        format!("{worst:.1e}"),
    ])
}

/// Relevance and the seconds that it took.
fn timed(explainer: &Explainer, images: &relprop::Tensor, targets: &Targets) -> Result<(Relevance, f64)> {
    interrupt::check()?;
    let began = Instant::now();
    let relevance = explainer.explain(&[Input::from(images)], targets)?;
    Ok((relevance, began.elapsed().as_secs_f64()))
}
