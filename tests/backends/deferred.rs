//! Denominators of widening layers of single positions, which are made on the way back beside the step that divides by them.

use super::*;

/// What a network of this kind is made of; each change of it is a case.
#[derive(Clone, Copy)]
struct Kind {
    /// Channels of the layer that widens.
    wide: usize,
    bias: f32,
    activation: Activation,
    /// Channels of a group of the layer behind it.
    group: usize,
    /// Whether another layer reads what is wide, too.
    is_read_twice: bool,
}

const KIND: Kind = Kind { wide: 40, bias: 0.3, activation: Activation::Relu, group: 1, is_read_twice: false };

/// Single positions of both signs, a layer that widens them, windows in groups, and a layer that narrows them again.
fn network(kind: Kind) -> Network {
    let mut numbers = Numbers(53);
    let mut builder = Network::builder();
    let mut add = |builder: &mut relprop::NetworkBuilder,
                   name: &str,
                   value,
                   [sources, targets, kernel, group]: [usize; 4],
                   bias| {
        let axis = WindowAxis { before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) };
        let weight =
            numbers.weight(targets, group * kernel * kernel).reshape([targets, group, kernel, kernel]).unwrap();
        let bias = Some(Tensor::from_fn(&[targets], |at| bias * (at as f32 * 0.7).sin()));
        builder.conv(name, value, weight, bias, Window::new(vec![axis; 2]).unwrap(), sources / group).unwrap()
    };
    let Kind { wide, bias, activation, group, is_read_twice } = kind;
    let x = builder.input("x", [12, 9, 7]);
    let narrow = add(&mut builder, "narrow", x, [12, 10, 1, 12], 0.2);
    let expanded = add(&mut builder, "expanded", narrow, [10, wide, 1, 10], bias);
    let expanded = builder.activation("activated", expanded, activation).unwrap();
    let grouped = add(&mut builder, "grouped", expanded, [wide, wide, 3, group], 0.1);
    let mut grouped = builder.activation("activated again", grouped, Activation::Relu).unwrap();
    if is_read_twice {
        grouped = builder.sum("shortcut", &[grouped, expanded]).unwrap();
    }
    let last = add(&mut builder, "last", grouped, [wide, 6, 1, wide], 0.1);
    let last = builder.global_average_pool("average", last).unwrap();
    let flat = builder.reshape("flat", last, [6]).unwrap();
    builder.build(flat).unwrap()
}

/// The positions of the products that make denominators of the layer that widens, and of the steps that read one; and how long the forward pass
/// is.
fn made_and_read(kind: Kind, rule: LinearRule, ask: &Ask, together: bool) -> (Vec<usize>, Vec<usize>, usize) {
    let network = network(kind);
    let target = Target { together, ..Target::UNLIMITED };
    let plan = plan::build(&network, &composite_of(rule).assign(&network).unwrap(), ask, &target).unwrap();
    let is_denominator = |buffer: plan::BufferId| plan.buffers[buffer.index()].name == "d(expanded)";
    let reads = |step: &Step| usize::from(step.ops().flat_map(plan::Op::reads).any(is_denominator));
    let makes = |step: &Step| if step.writes().any(is_denominator) { step.products().count() } else { 0 };
    let all = |count: &dyn Fn(&Step) -> usize| {
        let steps = plan.steps.iter().enumerate();
        steps.flat_map(|(position, step)| std::iter::repeat_n(position, count(step))).collect()
    };
    (all(&makes), all(&reads), plan.forward)
}

/// Whether one product makes it, right before the one that divides by it on the way back.
fn is_deferred(kind: Kind, rule: LinearRule, ask: &Ask, together: bool) -> bool {
    let (made, read, forward) = made_and_read(kind, rule, ask, together);
    matches!((&made[..], &read[..]), (&[made], &[read]) if made >= forward && read == made + 1)
}

#[test]
fn a_denominator_waits_where_only_the_step_back_from_groups_reads_it() {
    let plus = || LinearRule::z_plus(damped());
    let ask = Ask::default();
    assert!(is_deferred(KIND, plus(), &ask, true));
    assert!(is_deferred(Kind { group: 4, ..KIND }, plus(), &ask, true));
    // An executor that runs no steps together.
    assert!(!is_deferred(KIND, plus(), &ask, false));
    // Elsewhere it is made beside z.
    let is_kept = |kind: Kind, rule: LinearRule, ask: &Ask| {
        let (made, _, forward) = made_and_read(kind, rule, ask, true);
        !made.is_empty() && made.iter().all(|step| *step < forward)
    };
    // Windows of all channels; another reader; too little to save; relevance below zero.
    for kind in [
        Kind { group: 40, ..KIND },
        Kind { is_read_twice: true, ..KIND },
        Kind { wide: 19, ..KIND },
        Kind { activation: Activation::Tanh, ..KIND },
    ] {
        assert!(is_kept(kind, plus(), &ask));
    }
    // A report, which reads it too; rows of several targets.
    assert!(is_kept(KIND, plus(), &Ask { report: true, ..ask.clone() }));
    assert!(is_kept(KIND, plus(), &Ask { targets: 2, ..ask.clone() }));
    // One that is measured where z is below zero; one that holds no bias; two of them; z itself.
    assert!(is_kept(KIND, LinearRule::z_plus(Stabilizer::Rms(0.1)), &ask));
    let mut without_bias = plus();
    without_bias.groups[0].bias = BiasPart::Absent;
    assert!(is_kept(KIND, without_bias, &ask));
    assert!(is_kept(KIND, LinearRule::alpha_beta(2.0, damped()), &ask));
    assert!(made_and_read(KIND, LinearRule::epsilon(damped()), &ask, true).0.is_empty());
    let forward = Ask { forward_only: true, ..ask };
    assert!(made_and_read(KIND, plus(), &forward, true).0.is_empty());
}

#[test]
fn deferred_denominators_agree_with_the_reference() {
    let composite = composite_of(LinearRule::z_plus(damped()));
    // Biases far above and below what they are added to.
    for (bias, group) in [(0.0, 1), (0.3, 4), (30.0, 1), (3000.0, 1)] {
        let what = format!("bias {bias}, groups of {group}");
        let network = || network(Kind { bias, group, ..KIND });
        let backends = || vec![on(Backend::Cpu)];
        assert_agree(backends(), network(), &composite, 5, &Request::new(Targets::ArgMax), &what);
        assert_agree(backends(), network(), &composite, 3, &Request::new(Targets::Class(2)).report(true), &what);
        assert_agree(backends(), network(), &composite, 3, &Request::new(Targets::Top(2)).keep("expanded"), &what);
    }
    assert_backends_agree(network(KIND), &composite, 3, &Request::new(Targets::ArgMax).keep("activated"), "kept");
}
