//! Pass 1: choose the explained output and keep only what it depends on.
//!
//! LRP explains one output. Whatever else a model computes (class labels, probabilities as dictionaries, training
//! outputs) must neither be supported nor be paid for, so this comes before anything is checked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{Error, ErrorKind, Result, unknown};
use crate::graph::{ElementType, Graph, Node, Op, ValueId};

/// The explained output: the named one, or the first of real numbers that depends on an input.
pub(super) fn choose_output(graph: &Graph, name: Option<&str>) -> Result<ValueId> {
    if graph.outputs.is_empty() {
        return Err(Error::new(ErrorKind::Malformed, "the model has no output").help("export the model again"));
    }
    let producers = graph.producers()?;
    let behind_dictionary = |value: ValueId| match producers[value.index()].map(|node| &graph.nodes[node]) {
        Some(Node { op: Op::ZipMap, inputs, .. }) => inputs.first().copied().flatten().unwrap_or(value),
        _ => value,
    };
    if let Some(name) = name {
        let found = graph.find(name).filter(|&id| graph.outputs.contains(&id) || producers[id.index()].is_some());
        return found.map(behind_dictionary).ok_or_else(|| unknown_output(graph, name));
    }
    for &output in &graph.outputs {
        let value = behind_dictionary(output);
        let real = matches!(graph.value(value).element, ElementType::Float | ElementType::Unknown);
        if real && depends_on_input(graph, &producers, value) {
            return Ok(value);
        }
    }
    let names: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("none of the model's outputs ({}) holds real numbers that depend on an input", names.join(", ")),
    )
    .help("name a value inside the model to explain instead, such as its class scores"))
}

fn unknown_output(graph: &Graph, name: &str) -> Error {
    let made = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    let inner = made.filter(|id| !graph.outputs.contains(id));
    let known = graph.outputs.iter().chain(inner).map(|&id| graph.value(id).name.as_str());
    let outputs: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    unknown("output or value inside", name, known).context(format!("the model's outputs are {}", outputs.join(", ")))
}

fn depends_on_input(graph: &Graph, producers: &[Option<usize>], output: ValueId) -> bool {
    let mut seen = vec![false; graph.values.len()];
    let mut open = vec![output];
    while let Some(value) = open.pop() {
        if std::mem::replace(&mut seen[value.index()], true) {
            continue;
        }
        match producers[value.index()] {
            Some(node) => open.extend(graph.nodes[node].inputs.iter().flatten()),
            None if graph.value(value).constant.is_some() => {}
            // An input, or a value that nothing makes: `needed` says so with its reader.
            None => return true,
        }
    }
    false
}

/// The nodes that `output` depends on, each after those that it reads and otherwise in the given order.
///
/// # Errors
/// [`ErrorKind::Malformed`] if a node reads what nothing makes, or nodes wait for each other.
pub(super) fn needed(graph: &Graph, nodes: &[Node], output: ValueId) -> Result<Vec<Node>> {
    let mut producers = vec![None; graph.values.len()];
    for (index, node) in nodes.iter().enumerate() {
        node.outputs.iter().flatten().for_each(|output| producers[output.index()] = Some(index));
    }
    let made = producers[output.index()].is_some() || graph.value(output).constant.is_some();
    if !made && !graph.inputs.contains(&output) {
        let message = format!("nothing makes the output `{}`", graph.value(output).name);
        return Err(Error::new(ErrorKind::Malformed, message)
            .help("the file is damaged or was edited by hand; export the model again"));
    }
    let reached = reach(graph, nodes, &producers, output)?;
    let mut waits = vec![0; nodes.len()];
    let mut readers = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate().filter(|&(index, _)| reached[index]) {
        for maker in node.inputs.iter().flatten().filter_map(|input| producers[input.index()]) {
            waits[index] += 1;
            readers[maker].push(index);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|&index| reached[index] && waits[index] == 0).map(Reverse).collect();
    let mut sorted = Vec::new();
    while let Some(Reverse(index)) = ready.pop() {
        sorted.push(nodes[index].clone());
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match (0..nodes.len()).find(|&index| reached[index] && waits[index] > 0) {
        None => Ok(sorted),
        Some(stuck) => Err(Error::new(ErrorKind::Malformed, "the graph is cyclic: this node waits for its own output")
            .at(nodes[stuck].place())
            .help("the file is damaged or was edited by hand; export the model again")),
    }
}

fn reach(graph: &Graph, nodes: &[Node], producers: &[Option<usize>], output: ValueId) -> Result<Vec<bool>> {
    let mut reached = vec![false; nodes.len()];
    let mut is_input = vec![false; graph.values.len()];
    graph.inputs.iter().for_each(|input| is_input[input.index()] = true);
    let mut open: Vec<usize> = producers[output.index()].into_iter().collect();
    while let Some(index) = open.pop() {
        if std::mem::replace(&mut reached[index], true) {
            continue;
        }
        for &input in nodes[index].inputs.iter().flatten() {
            match producers[input.index()] {
                Some(maker) => open.push(maker),
                None if graph.value(input).constant.is_some() || is_input[input.index()] => {}
                None => {
                    let message = format!("the node reads `{}`, which nothing makes", graph.value(input).name);
                    return Err(Error::new(ErrorKind::Malformed, message)
                        .at(nodes[index].place())
                        .help("the file is damaged or was edited by hand; export the model again"));
                }
            }
        }
    }
    Ok(reached)
}
