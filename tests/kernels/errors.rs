//! What the kernels refuse, and what they say.

use relprop::{ErrorKind, wgpu};

use super::device::Buffer;
use super::{
    EpsilonBuffers, EpsilonShape, ForwardBuffers, ForwardShape, InputPart, LinearEpsilon, LinearForward, Stabilizer,
    shared,
};

fn assert_refused<T>(result: relprop::Result<T>, kind: ErrorKind, says: &str) {
    let Err(error) = result else { panic!("nothing is refused: {says}") };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "`{says}` is not in: {error}");
}

fn encoder() -> wgpu::CommandEncoder {
    shared().device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

#[test]
fn extents_of_zero_are_refused() {
    for extents in [[0, 2, 3], [1, 0, 3], [1, 2, 0]] {
        let [rows, inputs, outputs] = extents;
        let result = LinearForward::new(&shared().device, &ForwardShape::new(rows, inputs, outputs));
        assert_refused(result, ErrorKind::Shape, "extent of 0");
        let result = LinearEpsilon::new(&shared().device, &EpsilonShape::new(rows, inputs, outputs));
        assert_refused(result, ErrorKind::Shape, "extent of 0");
    }
    let shape = EpsilonShape { targets: 0, ..EpsilonShape::new(1, 2, 3) };
    assert_refused(LinearEpsilon::new(&shared().device, &shape), ErrorKind::Shape, "extent of 0");
}

#[test]
fn what_needs_more_than_its_element_is_refused() {
    let shape = EpsilonShape { stabilizer: Stabilizer::Rms(0.1), ..EpsilonShape::new(1, 2, 3) };
    assert_refused(LinearEpsilon::new(&shared().device, &shape), ErrorKind::Unsupported, "rms");
    for input in [InputPart::Low, InputPart::High] {
        let shape = ForwardShape { input, ..ForwardShape::new(1, 2, 3) };
        assert_refused(LinearForward::new(&shared().device, &shape), ErrorKind::Unsupported, "no part of x");
        let shape = EpsilonShape { input, ..EpsilonShape::new(1, 2, 3) };
        assert_refused(LinearEpsilon::new(&shared().device, &shape), ErrorKind::Unsupported, "no part of x");
    }
    let shape = ForwardShape { input: InputPart::One, ..ForwardShape::new(1, 2, 3) };
    assert_refused(LinearForward::new(&shared().device, &shape), ErrorKind::Unsupported, "no part of x");
}

fn room(elements: usize) -> Buffer {
    shared().wanted(elements)
}

#[test]
fn small_buffers_are_refused() {
    let (x, weight, bias, z) = (room(5 * 6), room(7 * 8), room(7), room(5 * 7));
    let kernel = LinearForward::new(&shared().device, &ForwardShape::new(5, 6, 7)).unwrap();
    let whole = ForwardBuffers { x: x.exact(), weight: weight.exact(), bias: Some(bias.exact()), z: z.exact() };
    kernel.encode(&mut encoder(), whole.clone()).unwrap();
    let short = [
        ("x", ForwardBuffers { x: x.short(), ..whole.clone() }),
        ("weight", ForwardBuffers { weight: weight.short(), ..whole.clone() }),
        ("bias", ForwardBuffers { bias: Some(bias.short()), ..whole.clone() }),
        ("z", ForwardBuffers { z: z.short(), ..whole }),
    ];
    for (name, buffers) in short {
        assert_refused(kernel.encode(&mut encoder(), buffers), ErrorKind::Shape, &format!("`{name}` has"));
    }

    let (relevance, result) = (room(10 * 7), room(10 * 6));
    let shape = EpsilonShape { targets: 2, ..EpsilonShape::new(5, 6, 7) };
    let kernel = LinearEpsilon::new(&shared().device, &shape).unwrap();
    let whole = EpsilonBuffers {
        x: x.exact(),
        weight: weight.exact(),
        z: z.exact(),
        relevance: relevance.exact(),
        result: result.exact(),
    };
    kernel.encode(&mut encoder(), whole.clone()).unwrap();
    let short = [
        ("x", EpsilonBuffers { x: x.short(), ..whole.clone() }),
        ("weight", EpsilonBuffers { weight: weight.short(), ..whole.clone() }),
        ("z", EpsilonBuffers { z: z.short(), ..whole.clone() }),
        ("relevance", EpsilonBuffers { relevance: relevance.short(), ..whole.clone() }),
        ("result", EpsilonBuffers { result: result.short(), ..whole }),
    ];
    for (name, buffers) in short {
        assert_refused(kernel.encode(&mut encoder(), buffers), ErrorKind::Shape, &format!("`{name}` has"));
    }
}

/// The rest of a buffer counts, not the whole; an offset may even lie beyond it.
#[test]
fn the_bytes_behind_an_offset_count() {
    let x = shared().device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 512,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let (weight, bias, z) = (room(4 * 4), room(4), room(30 * 4));
    let kernel = LinearForward::new(&shared().device, &ForwardShape::new(30, 4, 4)).unwrap();
    for (offset, is_enough) in [(0, true), (256, false), (768, false)] {
        let x = wgpu::BufferBinding { buffer: &x, offset, size: None };
        let buffers = ForwardBuffers { x, weight: weight.open(), bias: Some(bias.open()), z: z.open() };
        let result = kernel.encode(&mut encoder(), buffers);
        assert_eq!(result.is_ok(), is_enough, "offset {offset}");
    }
}

#[test]
fn a_bias_is_given_where_it_is_added() {
    let (x, weight, bias, z) = (room(4), room(16), room(4), room(4));
    let buffers = |bias| ForwardBuffers { x: x.open(), weight: weight.open(), bias, z: z.open() };
    let shape = ForwardShape::new(1, 4, 4);
    let kernel = LinearForward::new(&shared().device, &shape).unwrap();
    assert_refused(kernel.encode(&mut encoder(), buffers(None)), ErrorKind::Shape, "none is given");
    let kernel = LinearForward::new(&shared().device, &ForwardShape { has_bias: false, ..shape }).unwrap();
    let result = kernel.encode(&mut encoder(), buffers(Some(bias.open())));
    assert_refused(result, ErrorKind::Shape, "the kernel adds none");
}
