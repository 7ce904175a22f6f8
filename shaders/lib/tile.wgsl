// Which tile a workgroup makes: columns first, then {{ "units, each with weights or taps of its own, then " if units }}rows.
fn tile_of(tile: u32, across: u32) -> vec2<u32> {
{% if units %}
    begin(tile / across % step.units);
    return vec2(tile % across, tile / across / step.units);
{% else %}
    return vec2(tile % across, tile / across);
{% endif %}
}
