// SPDX-License-Identifier: Apache-2.0
//! Elastic columns: three spaces after the widest cell, no tabs in the output.
//!
//! Text goes in with a tab after every cell. A column spans the consecutive lines that have a cell there, so
//! widths begin anew after a line without it; text after the last tab of a line belongs to no column. A form feed
//! ends all columns.

const PADDING: usize = 3;

/// `text` with its tabs replaced by spaces.
pub(crate) fn align(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for part in text.split('\u{c}') {
        let lines = part.lines().map(|line| line.split('\t').collect());
        block(&lines.collect::<Vec<_>>(), &mut Vec::new(), &mut out);
    }
    out
}

/// Writes `lines`, in which the columns up to `widths.len()` are known.
fn block(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has_cell = |line: &Vec<&str>| line.len() - 1 > column;
    let mut rest = lines;
    while !rest.is_empty() {
        let plain = rest.iter().take_while(|line| !has_cell(line)).count();
        write_lines(&rest[..plain], widths, out);
        rest = &rest[plain..];
        let cells = rest.iter().take_while(|line| has_cell(line)).count();
        let widest = rest[..cells]
            .iter()
            .map(|line| line[column].chars().count());
        if let Some(widest) = widest.max() {
            widths.push(widest + PADDING);
            block(&rest[..cells], widths, out);
            widths.pop();
        }
        rest = &rest[cells..];
    }
}

fn write_lines(lines: &[Vec<&str>], widths: &[usize], out: &mut String) {
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < line.len() {
                let width = widths.get(i).copied().unwrap_or(0);
                let missing = width.saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', missing));
            }
        }
        out.push('\n');
    }
}

/// Lines of one table row in which the column `at` has several lines: the first line holds the other cells,
/// the following ones are empty but for it. `closed`: the last cell ends with a tab too.
pub(crate) fn tall_row(cells: &[&str], at: usize, tall: &[String], closed: bool) -> String {
    let mut out = String::new();
    for i in 0..tall.len().max(1) {
        let text = tall.get(i).map_or("", String::as_str);
        for (column, cell) in cells.iter().enumerate() {
            if column > 0 {
                out.push('\t');
            }
            match (column == at, i) {
                (true, _) => out.push_str(text),
                (false, 0) => out.push_str(cell),
                (false, _) => {}
            }
        }
        if closed {
            out.push('\t');
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_three_spaces_and_begin_anew() {
        let text = "A\tB\tC\n1\tlong cell\tx\nno cells\nlong first\tx\t\n";
        assert_eq!(
            align(text),
            "A   B           C\n1   long cell   x\nno cells\nlong first   x   \n"
        );
    }

    #[test]
    fn a_cell_is_as_wide_as_its_characters() {
        assert_eq!(align("ä\tx\nbb\ty\n"), "ä    x\nbb   y\n");
        assert_eq!(align("\tx\n\ty\n"), "   x\n   y\n");
        assert_eq!(align(""), "");
        assert_eq!(align("aaaa\tx\n\u{c}b\ty\n"), "aaaa   x\nb   y\n");
    }

    #[test]
    fn tall_rows() {
        let row = tall_row(&["1", "", "z"], 1, &["a".into(), "b".into()], false);
        assert_eq!(row, "1\ta\tz\n\tb\t\n");
        assert_eq!(tall_row(&["1", ""], 1, &[], true), "1\t\t\n");
    }
}
