// Which tile a workgroup makes: columns first, then {{ "units, each with weights or taps of its own, then " if units }}rows. Gives the tile's place
// across and down, and its unit.
fn tile_of(tile: u32, across: u32) -> vec3<u32> {
{% if units %}
    let unit = tile / across % step.units;
    begin(unit);
    return vec3(tile % across, tile / across / step.units, unit);
{% else %}
    return vec3(tile % across, tile / across, 0u);
{% endif %}
}
