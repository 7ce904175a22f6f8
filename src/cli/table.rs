//! Tables of text.

use std::fmt::Write as _;

/// Rows of cells as text, each column as wide as its widest cell; the first row is the head. Columns of numbers end at
/// one place, all others begin at one.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let is_numeric = |column: usize| rows.len() > 1 && rows[1..].iter().all(|row| is_number(&row[column]));
    let columns: Vec<(usize, bool)> = (0..columns).map(|column| (width(column), is_numeric(column))).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&columns).map(|(cell, &(width, is_numeric))| {
            if is_numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text
}

/// Whether a cell is a number, as tables write them, or the dash for none.
fn is_number(cell: &str) -> bool {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | 'e' | '-' | '%' | ' ');
    let cell = cell.strip_prefix('-').unwrap_or(cell);
    cell == "–" || (cell.starts_with(|first: char| first.is_ascii_digit()) && cell.chars().all(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_at_one_place_and_words_begin_at_one() {
        let signed = [["change"], ["-12.5"], ["3.25"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&signed), "  change\n   -12.5\n    3.25\n");
        let rows = [["name", "speed"], ["cpu", "1,000"], ["gpu (a)", "–"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(table(&rows), "  name     speed\n  cpu      1,000\n  gpu (a)      –\n");
    }
}
