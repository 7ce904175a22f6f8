//! Pass 7: zeros that the model adds around a value become padding of the convolution or average pool that reads it.
//!
//! Exporters write padding as a node of its own where an operator cannot state it. As a layer's own padding the zeros
//! are no inputs: rules with x̃ = 1 (flat, w²) and shares of the bias give them nothing, as in the tools of the field,
//! whose layers pad by themselves. As elements of a value they would take relevance that then is lost.
//! Only the one reader of a padded value takes the padding; channels that are added stay a layer.

use super::draft::{Draft, StepOp};
use crate::error::Result;
use crate::layers::{AveragePool, AxisMap, AxisMapKind, Conv, ConvWay, Divisor, Layer, Window, WindowAxis};

/// Merges zeros into every convolution and average pool that can take them.
pub(super) fn fold(draft: &mut Draft) -> Result<()> {
    let counts = draft.reader_counts();
    let mut folded = false;
    for index in 0..draft.steps.len() {
        while let Some((maker, layer)) = merged(draft, index, &counts)? {
            draft.steps[index].op = StepOp::Layer(layer);
            draft.steps[index].inputs[0] = draft.steps[maker].inputs[0];
            folded = true;
        }
    }
    if folded {
        draft.prune();
    }
    Ok(())
}

/// Step `index` with the padding of the step before it, and that step; none if it cannot take any.
fn merged(draft: &Draft, index: usize, counts: &[usize]) -> Result<Option<(usize, Layer)>> {
    let StepOp::Layer(layer @ (Layer::Conv(_) | Layer::AveragePool(_))) = &draft.steps[index].op else {
        return Ok(None);
    };
    let value = draft.steps[index].inputs[0];
    let Some((maker, Layer::AxisMap(map))) = draft.layer_before(value) else { return Ok(None) };
    let Some((before, after)) = zeros_around(map).filter(|_| counts[value] == 1 && map.axis() > 0) else {
        return Ok(None);
    };
    let wider = |window: &Window| {
        let widen = |(axis, old): (usize, &WindowAxis)| match axis + 1 == map.axis() {
            true => WindowAxis { before: old.before + before, after: old.after + after, ..*old },
            false => *old,
        };
        Window::new(window.axes().iter().enumerate().map(widen).collect())
    };
    Ok(match layer {
        Layer::Conv(conv) if *conv.way() == ConvWay::Plain => {
            let window = wider(conv.window())?;
            let conv = Conv::new(conv.weight().clone(), conv.bias().cloned(), window, conv.groups())?;
            Some((maker, Layer::Conv(conv)))
        }
        Layer::AveragePool(pool) => {
            let own = pool.window().axes().iter().any(|axis| axis.before + axis.after > 0);
            let divisor = match pool.divisor() {
                // The zeros were elements, and the pool's own padding was not: one number cannot say both.
                Divisor::Inside if own => return Ok(None),
                Divisor::Inside | Divisor::InsidePadded => Divisor::InsidePadded,
                Divisor::One => Divisor::One,
            };
            Some((maker, Layer::AveragePool(AveragePool::new(wider(pool.window())?, divisor))))
        }
        _ => None,
    })
}

/// How many zeros a map adds before and behind its axis, if it does nothing else.
fn zeros_around(map: &AxisMap) -> Option<(usize, usize)> {
    if map.kind() != AxisMapKind::Pad {
        return None;
    }
    let sources = map.sources();
    let before = sources.iter().take_while(|source| source.is_empty()).count();
    let after = sources.len().checked_sub(before + map.inputs())?;
    let whole = |(index, source): (usize, &Vec<(usize, f32)>)| match index.checked_sub(before) {
        Some(input) if input < map.inputs() => source[..] == [(input, 1.0)],
        _ => source.is_empty(),
    };
    sources.iter().enumerate().all(whole).then_some((before, after))
}
