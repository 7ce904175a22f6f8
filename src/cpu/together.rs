//! Which steps run together, part by part.
//!
//! Two steps may make the same positions by products of one layer. Made part by part, a source that both read is read and laid out once, and what the first
//! made is still near when the second reads it, or need never be in memory. Steps behind them that read single positions of what they make, and which
//! nobody else reads, take each part as it is made, so that this is in no memory either; nor is what one before them makes for their chains alone.

use std::ops::Range;

use super::tools::Tool;
use crate::network::Network;
use crate::plan::{BufferId, Buffers, Plan, Role, Step, order};

/// Steps that run together: one by itself, or two of a layer's products; one before them that makes what their chains read; and those behind that
/// are made of their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) before: Range<usize>,
    pub(super) steps: Range<usize>,
    pub(super) behind: Range<usize>,
    /// What they write that no step reads but these: it is kept nowhere. It has its slot all the same: who runs steps one by one stores it.
    pub(super) passes: Vec<BufferId>,
}

impl Group {
    fn new(plan: &Plan, order::Run { before, steps, behind }: order::Run) -> Self {
        let all = before.start..behind.end;
        let is_read = |id: BufferId| {
            let outside = plan.steps[..all.start].iter().chain(&plan.steps[all.end..]);
            outside.flat_map(Step::reads).any(|read| read == id)
        };
        let stays =
            |id: &BufferId| plan.buffers[id.index()].role == Role::Scratch && *id != plan.logits && !is_read(*id);
        let read = |id: &BufferId| plan.steps[all.clone()].iter().flat_map(Step::reads).any(|read| read == *id);
        let written = || plan.steps[all.clone()].iter().flat_map(Step::writes);
        let passes = if all.len() > 1 { written().filter(stays).filter(read).collect() } else { Vec::new() };
        Group { before, steps, behind, passes }
    }

    /// Steps of one layer's products.
    fn of_one_layer(plan: &Plan, steps: Range<usize>) -> Self {
        let nothing = |at: usize| at..at;
        Group::new(plan, order::Run { before: nothing(steps.start), behind: nothing(steps.end), steps })
    }

    /// Those that go on from what others made of a part, one after another.
    pub(super) fn stages(&self) -> Vec<Range<usize>> {
        let all = [&self.before, &self.steps, &self.behind].map(Range::clone);
        all.into_iter().filter(|stage| !stage.is_empty()).collect()
    }

    /// All its steps, one after another.
    pub(super) fn all(&self) -> Range<usize> {
        self.before.start..self.behind.end
    }
}

/// The steps of a plan in their order, those that can run together as one group; `threads` share each step.
pub(super) fn groups(network: &Network, plan: &Plan, tools: &[Tool], threads: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    let of_one_layer = |steps: Range<usize>| -> Vec<Group> {
        let is_pair =
            steps.len() > 1 && are_alike(plan, tools, steps.start, threads) && are_apart(plan, steps.clone(), 0);
        if is_pair {
            return vec![Group::of_one_layer(plan, steps)];
        }
        steps.map(|step| Group::of_one_layer(plan, step..step + 1)).collect()
    };
    for order::Run { before, steps, behind } in order::runs(network, &buffers_of(plan), &plan.steps, plan.forward) {
        let nothing = |at: usize| at..at;
        // As many of them as can.
        let ways = [
            (before.clone(), behind.clone()),
            (nothing(steps.start), behind.clone()),
            (before.clone(), nothing(steps.end)),
        ];
        let runs = ways.into_iter().map(|(before, behind)| order::Run { before, steps: steps.clone(), behind });
        let mut runs = runs.filter(|run| run.all().len() > run.steps.len());
        let one = runs.find(|run| {
            let mut stages = [&run.before, &run.steps, &run.behind].into_iter();
            stages.all(|stage| of_one_layer(stage.clone()).len() <= 1)
                && hand_on_parts(plan, tools, run)
                && are_apart(plan, run.all(), run.behind.len())
        });
        match one {
            Some(run) => {
                let all = run.all();
                groups.extend(of_one_layer(before.start..all.start));
                groups.push(Group::new(plan, run));
                groups.extend(of_one_layer(all.end..behind.end));
            }
            None => groups.extend([before, steps, behind].into_iter().flat_map(of_one_layer)),
        }
    }
    groups
}

/// Whether the steps before others give these, and those behind take of them, parts as they make them.
fn hand_on_parts(plan: &Plan, tools: &[Tool], run: &order::Run) -> bool {
    let of = |position: usize| match &tools[position] {
        Tool::Convolve(conv) => Some(&**conv),
        _ => None,
    };
    let Some(lead) = of(run.steps.start) else { return false };
    let gives = |position| of(position).is_some_and(|conv| conv.gives_parts_to(&plan.steps[position], lead));
    let takes = |position| of(position).is_some_and(|conv| conv.takes_parts_of(&plan.steps[position], lead));
    run.before.clone().all(gives) && run.behind.clone().all(takes)
}

/// Whether a step and the next make the same positions by the same kind of products.
fn are_alike(plan: &Plan, tools: &[Tool], position: usize, threads: usize) -> bool {
    let Some([first, second]) = plan.steps[position..].first_chunk() else { return false };
    let rows = |step: &Step| plan.buffers[step.target.index()].rows;
    let is_shared = match (&tools[position], &tools[position + 1]) {
        (Tool::Convolve(_), Tool::Convolve(_)) => true,
        // All threads together work on one step's tiles.
        (Tool::Winograd(first), Tool::Winograd(second)) => {
            first.side == second.side && !first.is_run_together(threads) && !second.is_run_together(threads)
        }
        _ => false,
    };
    is_shared && rows(first) == rows(second)
}

/// Whether parts of steps can take turns, of which the last `behind` have sources that the others make: what one writes, no other writes, and
/// others read at the same positions alone.
fn are_apart(plan: &Plan, steps: Range<usize>, behind: usize) -> bool {
    let buffers = buffers_of(plan);
    let are_two_apart = |one: usize, other: usize| {
        let [from, to] = [&plan.steps[one], &plan.steps[other]];
        from.writes().all(|written| {
            let meets = |id: &BufferId| meet(plan, *id, written);
            let (is_made, is_behind) = (one < other, one < steps.end - behind && other >= steps.end - behind);
            let mut beside = to.ops().flat_map(|op| op.reads()).filter(meets);
            let mut sources = to.sources().filter(meets);
            to.writes().all(|id| !meets(&id))
                && beside.all(|id| is_made && id == written && buffers.are_like(id, to.target))
                && sources.all(|id| is_behind && id == written)
        })
    };
    steps.clone().all(|one| steps.clone().filter(|other| *other != one).all(|other| are_two_apart(one, other)))
}

fn buffers_of(plan: &Plan) -> Buffers<'_> {
    Buffers { known: &plan.buffers, targets: plan.targets }
}

/// Whether two buffers are in the same memory.
fn meet(plan: &Plan, one: BufferId, other: BufferId) -> bool {
    let slot = |id| plan.placements.slot(id);
    one == other || (slot(one).is_some() && slot(one) == slot(other))
}

#[cfg(test)]
mod tests {
    use super::super::numbers::number;
    use std::collections::BTreeSet;

    use super::super::chosen::Chosen;
    use super::super::convolve::{self, Convolution, Reads};
    use super::super::simd::Level;
    use super::super::tests::assert_close;
    use super::super::{Cpu, Prepared};
    use super::*;
    use crate::batch::{Batch, Source};
    use crate::layers::{Window, WindowAxis};
    use crate::network::Network;
    use crate::plan::{Op, Operand, Rows};
    use crate::rules::InputPart;
    use crate::start::Start;
    use crate::{Backend, Composite, Condition, Explainer, Options, Request, Targets, Tensor};

    /// A large first layer, groups, windows of one position on signed and rectified sources, and windows that take tiles.
    fn network() -> Network {
        let mut builder = Network::builder();
        let mut value = builder.input("x", [3, 96, 128]);
        let windows = [
            ("first", 3, 80, 3, 2, 1),
            ("thin", 80, 24, 1, 1, 1),
            ("expanded", 24, 80, 1, 1, 1),
            ("depthwise", 80, 80, 3, 2, 80),
            ("narrow", 80, 24, 1, 1, 1),
            ("wide", 24, 64, 1, 1, 1),
            ("tiled", 64, 64, 3, 1, 1),
        ];
        for (name, sources, targets, kernel, stride, groups) in windows {
            let axis = WindowAxis { before: kernel / 2, after: kernel / 2, stride, ..WindowAxis::new(kernel) };
            let shape = [targets, sources / groups, kernel, kernel];
            let weight = Tensor::from_fn(&shape, |index| number(index + targets) / (sources / groups) as f32);
            let bias = Some(Tensor::from_fn(&[targets], |index| number(index + 5) / 8.0));
            let z = builder.conv(name, value, weight, bias, Window::new(vec![axis; 2]).unwrap(), groups).unwrap();
            value = if ["thin", "narrow"].contains(&name) {
                z
            } else {
                builder.relu(&format!("{name}, rectified"), z).unwrap()
            };
        }
        let pooled = builder.global_average_pool("average", value).unwrap();
        let flat = builder.reshape("flat", pooled, [64]).unwrap();
        let head = Tensor::from_fn(&[5, 64], number);
        let logits = builder.dense("head", flat, head, None).unwrap();
        builder.build(logits).unwrap()
    }

    fn prepared(network: &Network, preset: &str, request: &Request) -> (Cpu, Prepared) {
        let composite = Composite::preset(preset).unwrap();
        let rules = composite.assign(network).unwrap();
        let options = Options { backend: Backend::Cpu, threads: Some(2), ..Options::default() };
        let explainer = Explainer::with_options(network.clone(), &composite, options).unwrap();
        let plan = explainer.plan(request).unwrap();
        let cpu = Cpu::new(Some(2)).unwrap();
        let prepared = cpu.prepare(network, &rules, plan).unwrap();
        (cpu, prepared)
    }

    #[test]
    fn steps_of_every_kind_of_convolution_run_together_and_make_the_bits_that_they_make_alone() {
        let network = network();
        let x = Tensor::from_fn(&[7, 3, 96, 128], |index| number(index * 3));
        // Which layers' steps run together forward and back, with those behind them, and how many buffers are passed on.
        let expected: [(&str, &[&str]); 3] = [
            ("epsilon", &["depthwise > expanded: 1"]),
            (
                "epsilon-plus",
                &[
                    "first + first: 1",
                    "depthwise + depthwise: 0",
                    "wide + wide: 1",
                    "wide + wide: 1",
                    "narrow > narrow: 1",
                    "expanded > depthwise > expanded + expanded: 3",
                    "thin > thin: 1",
                    "first + first: 1",
                ],
            ),
            (
                "epsilon-alpha2-beta1",
                &[
                    "first + first: 1",
                    "thin + thin: 0",
                    "expanded + expanded: 1",
                    "depthwise + depthwise: 0",
                    "narrow + narrow: 0",
                    "wide + wide: 1",
                    "tiled + tiled: 0",
                    "wide + wide: 1",
                    "depthwise + depthwise > expanded + expanded: 4",
                    "first + first: 1",
                ],
            ),
        ];
        for (preset, expected) in expected {
            let (cpu, mut prepared) = prepared(&network, preset, &Request::new(Targets::ArgMax));
            let names = |steps: &Range<usize>| -> String {
                let name = |step: usize| network.layer(prepared.plan.steps[step].layer.unwrap()).name.as_str();
                steps.clone().map(name).collect::<Vec<_>>().join(" + ")
            };
            let several: Vec<_> = prepared.groups.iter().filter(|group| group.all().len() > 1).cloned().collect();
            let found = several.iter().map(|group| {
                let stages: Vec<_> = group.stages().iter().map(names).collect();
                format!("{}: {}", stages.join(" > "), group.passes.len())
            });
            assert_eq!(found.collect::<Vec<_>>(), expected, "{preset}");
            let tool = |pair: &Group| match &prepared.tools[pair.steps.start] {
                Tool::Convolve(conv) => match conv.reads {
                    Reads::Gathered => "gathered",
                    Reads::Planar(_) => "planar",
                    Reads::Grouped(_) => "grouped",
                },
                Tool::Winograd(_) => "tiles",
                _ => unreachable!("only convolutions run together"),
            };
            let kinds: BTreeSet<_> = several.iter().map(tool).collect();
            if preset == "epsilon-alpha2-beta1" {
                assert_eq!(kinds, BTreeSet::from(["gathered", "grouped", "planar", "tiles"]));
            }
            let run = |prepared: &Prepared| {
                let (mut relevance, mut logits, mut explained) = (vec![0.0; x.data().len()], vec![0.0; 35], vec![0; 7]);
                let batch = Batch {
                    samples: 7,
                    inputs: vec![Source::Float(x.data())],
                    targets: &Targets::ArgMax,
                    start: &Start::Logit,
                    results: vec![&mut relevance],
                    logits: &mut logits,
                    explained: &mut explained,
                };
                cpu.run(&network, prepared, batch, false).unwrap();
                relevance.iter().map(|r| r.to_bits()).collect::<Vec<_>>()
            };
            let together = run(&prepared);
            let alone = |step: usize| Group::of_one_layer(&prepared.plan, step..step + 1);
            prepared.groups = (0..prepared.plan.steps.len()).map(alone).collect();
            assert!(together.iter().any(|bits| *bits != 0), "{preset}");
            assert!(together == run(&prepared), "{preset}");
        }
    }

    #[test]
    fn steps_stay_apart_where_one_writes_what_the_other_reads_elsewhere() {
        let network = network();
        let (_, prepared) = prepared(&network, "epsilon-plus", &Request::new(Targets::ArgMax));
        let Prepared { plan, tools, groups: found, .. } = prepared;
        // On the way back, from relevance that has a row a target.
        let pair = found.iter().rfind(|group| group.steps.len() == 2).unwrap().clone();
        let (first, second) = (pair.steps.start, pair.steps.start + 1);
        assert!(!pair.passes.is_empty() && first >= plan.forward);
        let is_pair = |change: &dyn Fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            let groups = groups(&network, &changed, &tools, 2);
            let group = groups.into_iter().find(|group| group.all().contains(&first)).unwrap();
            (group.steps.len() == 2).then_some(!group.passes.is_empty())
        };
        let made = plan.steps[first].target;
        let source = plan.steps[first].source.unwrap();
        assert_eq!(is_pair(&|_| ()), Some(true));
        // The second's target is in the memory of what the first reads.
        assert_eq!(is_pair(&|plan| plan.steps[second].target = source.buffer), None);
        // The second's windows cover what the first makes.
        assert_eq!(is_pair(&|plan| plan.steps[second].source = Some(Operand::whole(made))), None);
        assert_eq!(is_pair(&|plan| plan.steps[second].layer = plan.steps[first - 1].layer), None);
        let others = if plan.buffers[made.index()].rows == Rows::Target { Rows::Sample } else { Rows::Target };
        assert_eq!(is_pair(&|plan| plan.buffers[made.index()].rows = others), None);
        assert_eq!(is_pair(&|plan| plan.forward = second), None);
        // Others read what the first makes.
        assert_eq!(is_pair(&|plan| plan.logits = made), Some(false));
        assert_eq!(is_pair(&|plan| plan.steps[second + 1].source = Some(Operand::whole(made))), Some(false));
        assert_eq!(is_pair(&|plan| plan.buffers[made.index()].role = Role::Result(1)), Some(false));
    }

    #[test]
    fn parts_that_are_handed_on_are_those_of_their_targets_and_samples() {
        let network = network();
        let x = Tensor::from_fn(&[5, 3, 96, 128], |index| number(index * 7));
        let request = Request::new(Targets::Top(3));
        for preset in ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1"] {
            let (_, prepared) = prepared(&network, preset, &request);
            assert!(prepared.groups.iter().any(|group| !group.behind.is_empty()), "{preset}");
            let composite = Composite::preset(preset).unwrap();
            let by = |backend, x: &Tensor| {
                let options = Options { backend, threads: Some(2), ..Options::default() };
                let explainer = Explainer::with_options(network.clone(), &composite, options).unwrap();
                explainer.explain_with(&[x.into()], &request).unwrap()
            };
            let one = Tensor::new([1, 3, 96, 128], x.row(4).to_vec()).unwrap();
            let (among, alone, exact) = (by(Backend::Cpu, &x), by(Backend::Cpu, &one), by(Backend::Reference, &one));
            let of_one = 3 * one.data().len();
            assert_eq!(&among.input().data()[4 * of_one..], alone.input().data(), "{preset}");
            assert_close(alone.input(), exact.input(), preset);
        }
    }

    #[test]
    fn steps_behind_stay_apart_where_they_write_what_those_before_them_read() {
        let network = network();
        let (_, prepared) = prepared(&network, "epsilon-alpha2-beta1", &Request::new(Targets::ArgMax));
        let Prepared { plan, tools, groups: found, .. } = prepared;
        let group = found.into_iter().find(|group| !group.behind.is_empty()).unwrap();
        let (first, behind) = (group.steps.start, group.behind.clone());
        let is_one = |change: &dyn Fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            let groups = groups(&network, &changed, &tools, 2);
            groups.into_iter().any(|other| other.all() == group.all())
        };
        assert!(is_one(&|_| ()));
        let (source, beside) = (plan.steps[first].source.unwrap(), plan.steps[first + 1].reads().last().unwrap());
        for read in [source.buffer, beside] {
            assert!(!is_one(&|plan| plan.steps[behind.start].target = read), "{read:?}");
            assert!(!is_one(&|plan| plan.steps[behind.start + 1].target = read), "{read:?}");
        }
        // Another layer's windows; what is handed on is read once more, or is not all that is read.
        assert!(!is_one(&|plan| plan.steps[behind.start].layer = plan.steps[first].layer));
        let handed_on = plan.steps[behind.start].source.unwrap();
        assert!(!is_one(&|plan| plan.steps[behind.end].source = Some(handed_on)));
        assert!(!is_one(&|plan| plan.steps[behind.start].source = Some(source)));
    }

    #[test]
    fn two_steps_come_to_one_where_each_counts_by_the_sign_of_the_same_input() {
        let network = network();
        let (_, prepared) = prepared(&network, "epsilon-plus", &Request::new(Targets::ArgMax));
        let chosen = |plan: &Plan, group: &Group, steps: &Range<usize>| {
            let of_step = |step: usize| match &prepared.tools[step] {
                Tool::Convolve(conv) => Some(&**conv),
                _ => None,
            };
            let convs: Vec<_> = steps.clone().filter_map(of_step).collect();
            let steps: Vec<_> = plan.steps[steps.clone()].iter().collect();
            Chosen::of(plan, &steps, &convolve::factors(&steps, &convs), &group.passes)
        };
        let all = prepared.groups.iter().flat_map(|group| [(group, &group.steps), (group, &group.behind)]);
        let found: Vec<_> = all.filter(|(group, steps)| chosen(&prepared.plan, group, steps).is_some()).collect();
        if Level::widest().lanes() < 16 {
            assert!(found.is_empty(), "without masks");
            return;
        }
        let name = |steps: &Range<usize>| network.layer(prepared.plan.steps[steps.start].layer.unwrap()).name.as_str();
        assert_eq!(found.iter().map(|(_, steps)| name(steps)).collect::<Vec<_>>(), ["wide", "expanded"]);
        let (group, steps) = found[0];
        let step = chosen(&prepared.plan, group, steps).unwrap().step;
        let last = &prepared.plan.steps[steps.end - 1];
        assert_eq!((step.target, step.chain.len() + 1), (last.target, last.chain.len()));
        let is_chosen = |change: &dyn Fn(&mut Plan)| {
            let mut changed = prepared.plan.clone();
            change(&mut changed);
            chosen(&changed, group, steps).is_some()
        };
        let (first, last) = (steps.start, steps.end - 1);
        let made = prepared.plan.steps[first].target;
        let x = prepared.plan.steps[first].chain[0].reads().next().unwrap();
        assert!(is_chosen(&|_| ()));
        // Other parts, or another value's; another factor; more on the way; the first's read again, or with rows of another kind.
        let multiply = |buffer, part| Op::Multiply(Operand { part, ..Operand::whole(buffer) });
        let changes: [&dyn Fn(&mut Plan); 7] = [
            &|plan| plan.steps[first].chain[0] = multiply(x, InputPart::Whole),
            &|plan| plan.steps[last].chain[0] = multiply(x, InputPart::Positive),
            &|plan| plan.steps[last].chain[0] = multiply(made, InputPart::Negative),
            &|plan| plan.steps[last].chain[1] = Op::Add { operand: Operand::whole(made), factor: 2.0 },
            &|plan| plan.steps[first].chain.push(Op::Scale(2.0)),
            &|plan| plan.steps[last].chain.push(Op::Multiply(Operand::whole(made))),
            &|plan| {
                plan.targets = 2;
                plan.buffers[x.index()].rows = Rows::Sample;
                plan.buffers[made.index()].rows = Rows::Target;
            },
        ];
        for (position, change) in changes.into_iter().enumerate() {
            assert!(!is_chosen(change), "change {position}");
        }
        let others = Group { passes: Vec::new(), ..group.clone() };
        assert!(chosen(&prepared.plan, &others, steps).is_none(), "others read it");
    }

    #[test]
    fn steps_run_together_without_those_that_cannot_hand_on_parts() {
        let network = network();
        let (_, mut prepared) = prepared(&network, "epsilon-plus", &Request::new(Targets::ArgMax));
        let all = prepared.groups.iter().find(|group| group.stages().len() == 3).unwrap().clone();
        let stages = |prepared: &Prepared| -> Vec<Vec<Range<usize>>> {
            let groups = groups(&network, &prepared.plan, &prepared.tools, 2);
            let of_run = groups.iter().filter(|group| all.all().contains(&group.all().start));
            of_run.map(Group::stages).collect()
        };
        assert_eq!(stages(&prepared), [all.stages()]);
        let change = |prepared: &mut Prepared, position: usize, by: &dyn Fn(&mut Convolution)| {
            let Tool::Convolve(conv) = &mut prepared.tools[position] else { unreachable!("a convolution") };
            by(conv);
        };
        // Rows so far apart that a product reads no rows as they lie.
        let far = |conv: &mut Convolution| conv.channels.source = 1024;
        change(&mut prepared, all.before.start, &far);
        assert_eq!(stages(&prepared), [vec![all.before.clone()], vec![all.steps.clone(), all.behind.clone()]]);
        change(&mut prepared, all.behind.start, &far);
        let behind = |prepared: &Prepared| stages(prepared).last().unwrap()[0].clone();
        assert_eq!(stages(&prepared)[..2], [vec![all.before.clone()], vec![all.steps.clone()]]);
        assert_eq!(behind(&prepared), all.behind);
        change(&mut prepared, all.before.start, &|conv| conv.channels.source = 24);
        assert_eq!(stages(&prepared), [vec![all.before.clone(), all.steps.clone()], vec![all.behind.clone()]]);
    }

    #[test]
    fn several_targets_conditions_reports_and_kept_values_agree_with_the_reference() {
        let network = network();
        let x = Tensor::from_fn(&[3, 3, 96, 128], |index| number(index * 3));
        let composite = Composite::preset("epsilon-alpha2-beta1").unwrap();
        let request = Request::new(Targets::Top(2)).report(true).keep("narrow");
        let request = request.condition(Condition::new().only("wide", [3, 5, 8, 21]));
        let by = |backend| {
            let options = Options { backend, threads: Some(2), ..Options::default() };
            let explainer = Explainer::with_options(network.clone(), &composite, options).unwrap();
            explainer.explain_with(&[(&x).into()], &request).unwrap()
        };
        let (found, exact) = (by(Backend::Cpu), by(Backend::Reference));
        assert_close(found.input(), exact.input(), "two targets");
        assert_close(&found.kept[0].relevance, &exact.kept[0].relevance, "two targets, inside");
    }
}
