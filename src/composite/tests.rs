//! Composites: which entry wins, presets beside zennit's assignments, and what is refused.

use super::*;
use crate::error::ErrorKind;
use crate::rules::{PointwiseRule, Stabilizer};
use crate::start::Start;
use crate::tensor::Tensor;

fn two_layers() -> Network {
    let mut builder = Network::builder();
    let x = builder.input("x", [2]);
    let scaled = builder.affine("scale", x, Tensor::scalar(2.0), Tensor::scalar(0.0)).unwrap();
    let hidden = builder.dense("fc1", scaled, Tensor::from_fn([2, 2], |i| i as f32), None).unwrap();
    let active = builder.relu("relu", hidden).unwrap();
    let output = builder.dense("fc2", active, Tensor::from_fn([1, 2], |i| i as f32), None).unwrap();
    builder.build(output).unwrap()
}

#[test]
fn the_first_match_wins_and_affine_layers_are_never_first() {
    let composite = Composite::preset("epsilon_plus")
        .unwrap()
        .with_first(Selector::First, Rule::Linear(LinearRule::flat(Stabilizer::DEFAULT)));
    let assignment = composite.assign(&two_layers()).unwrap();
    let names: Vec<String> = (0..4).map(|i| assignment.rule(LayerId(i)).unwrap().describe()).collect();
    assert_eq!(names, ["pass", "flat", "pass", "epsilon(1e-6)"]);
    assert_eq!(assignment.choice(LayerId(1)).unwrap().reason, "first linear layer after an input");
}

#[test]
fn an_unknown_preset_names_the_nearest() {
    let error = Composite::preset("epsilon-plas").unwrap_err();
    assert!(error.advice().unwrap().contains("epsilon-plus"), "{error}");
}

#[test]
fn a_rule_of_another_family_is_refused() {
    let pass = Rule::Pointwise(PointwiseRule::Pass);
    let composite = Composite::preset("epsilon").unwrap().with_first(Selector::name("fc*").unwrap(), pass);
    let error = composite.assign(&two_layers()).unwrap_err();
    assert_eq!(error.node(), Some("fc1"));
}

#[test]
fn a_pattern_that_matches_no_layer_is_an_error() {
    let rule = Rule::Linear(LinearRule::zero());
    let composite = Composite::preset("epsilon").unwrap().with_first(Selector::name("fc9").unwrap(), rule);
    assert!(composite.assign(&two_layers()).unwrap_err().advice().unwrap().contains("fc"));
}

#[test]
fn bounds_that_are_missing_or_do_not_fit_are_refused() {
    let boxed = |width: usize| {
        let bound = std::sync::Arc::new(Tensor::zeros([width]));
        LinearRule::zbox(crate::rules::Bounds { low: bound.clone(), high: bound }, Stabilizer::DEFAULT)
    };
    let assign = |rule: LinearRule| {
        let composite = Composite::preset("epsilon").unwrap();
        composite.with_first(Selector::First, Rule::Linear(rule)).assign(&two_layers())
    };
    assert!(assign(boxed(2)).is_ok());
    let error = assign(boxed(3)).unwrap_err();
    assert_eq!((error.node(), error.kind()), (Some("fc1"), ErrorKind::Shape));
    let error = assign(LinearRule { bounds: None, ..boxed(2) }).unwrap_err();
    assert_eq!((error.node(), error.kind()), (Some("fc1"), ErrorKind::Argument));
}

#[test]
fn presets_give_each_layer_its_tools_rule_and_note_what_no_layer_takes() {
    let expected = [
        ("gamma", ["gamma(0.25)", "pass"], 0, Start::Logit),
        ("epsilon-plus", ["epsilon(1e-6)", "pass"], 1, Start::Logit),
        ("epsilon-plus-flat", ["flat", "pass"], 1, Start::Logit),
        ("epsilon-alpha2-beta1", ["epsilon(1e-6)", "pass"], 1, Start::Logit),
        ("epsilon-alpha2-beta1-flat", ["flat", "pass"], 1, Start::Logit),
        ("epsilon-gamma-box", ["epsilon(1e-6)", "pass"], 2, Start::Logit),
        ("sequential-preset-a", ["epsilon(1e-1)", "pass"], 1, Start::Logit),
        ("sequential-preset-a-flat", ["flat", "pass"], 1, Start::Logit),
        ("sequential-preset-b", ["epsilon(1e-1)", "pass"], 1, Start::Logit),
        ("sequential-preset-b-flat", ["flat", "pass"], 1, Start::Logit),
        ("deep-taylor", ["z-plus", "pass"], 0, Start::Logit),
        ("excitation-backprop", ["z-plus", "gradient"], 0, Start::Logit),
        ("deconvnet", ["gradient", "deconvnet"], 0, Start::One),
        ("guided-backprop", ["gradient", "guided-backprop"], 0, Start::One),
        ("beta-smooth", ["gradient", "beta-smooth(10)"], 0, Start::One),
        ("gradient", ["gradient", "gradient"], 0, Start::One),
    ];
    for (name, rules, notes, start) in expected {
        let composite = Composite::preset(name).unwrap();
        let assignment = composite.assign(&two_layers()).unwrap();
        let found = [1, 2].map(|layer| assignment.rule(LayerId(layer)).unwrap().describe());
        assert_eq!(found, rules, "{name}");
        assert_eq!(assignment.notes().len(), notes, "{name}: {:?}", assignment.notes());
        assert_eq!(composite.default_start(), start, "{name}");
    }
}

#[test]
fn depth_counts_linear_layers_from_the_input() {
    let zero = || Rule::Linear(LinearRule::zero());
    let at = |depth| Composite::preset("epsilon").unwrap().with_first(Selector::Depth(depth), zero());
    let rules = |depth| -> Vec<String> {
        let assignment = at(depth).assign(&two_layers()).unwrap();
        [1, 3].map(|layer| assignment.rule(LayerId(layer)).unwrap().describe()).into()
    };
    assert_eq!(rules(1..=1), ["zero", "epsilon(1e-6)"]);
    assert_eq!(rules(2..=5), ["epsilon(1e-6)", "zero"]);
    assert_eq!(at(3..=3).assign(&two_layers()).unwrap().notes().len(), 1);
}

#[test]
fn rules_for_rectifiers_are_refused_elsewhere() {
    let guided = || Rule::Pointwise(PointwiseRule::GuidedBackprop);
    let composite = |family| Composite::preset("gradient").unwrap().with_first(Selector::Family(family), guided());
    assert_eq!(composite(Family::Affine).assign(&two_layers()).unwrap_err().node(), Some("scale"));
    assert!(composite(Family::Pointwise).assign(&two_layers()).is_ok());
}

#[test]
fn a_name_that_other_conditions_leave_no_layer_is_an_error() {
    let none = Selector::All(vec![Selector::name("fc*").unwrap(), Selector::kind("relu")]);
    let composite = Composite::preset("epsilon").unwrap().with_first(none, Rule::Linear(LinearRule::zero()));
    assert!(composite.assign(&two_layers()).unwrap_err().message().contains("kind is relu"));
}

#[test]
fn bounds_of_the_input_reach_the_box_rule_through_factors() {
    let bound = |value: f32| std::sync::Arc::new(Tensor::scalar(value));
    assert!(Composite::preset("deep-taylor-box").unwrap().assign(&two_layers()).is_err());
    let composite =
        Composite::preset("deep-taylor-box").unwrap().with_input_bounds(Bounds { low: bound(-1.0), high: bound(3.0) });
    let assignment = composite.assign(&two_layers()).unwrap();
    let Some(Rule::Linear(rule)) = assignment.rule(LayerId(1)) else { panic!("a linear rule") };
    let bounds = rule.bounds.as_ref().unwrap();
    assert_eq!((bounds.low.data(), bounds.high.data()), (&[-2.0, -2.0][..], &[6.0, 6.0][..]));
}
