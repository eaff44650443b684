//! Text tables with aligned columns. They have as many columns as fit the terminal.

use std::io::{self, IsTerminal};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GAP: usize = 2;
/// The minimum width of a truncated column. Narrower columns are not readable.
const MIN_CUT: usize = 16;

pub(super) struct GridColumn {
    pub(super) title: String,
    /// The most important column has the lowest rank.
    pub(super) rank: u8,
    pub(super) cells: Vec<String>,
}

impl GridColumn {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.width());
        cells.chain([self.title.width()]).max().unwrap_or_default()
    }
}

/// The width of the terminal, if standard output is one.
pub(super) fn terminal_width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// The columns that fit, chosen by rank, and the titles of the others. The first column that does
/// not fit is truncated if enough of it remains.
pub(super) fn fit(
    mut columns: Vec<GridColumn>,
    width: Option<usize>,
) -> (Vec<GridColumn>, Vec<String>) {
    let Some(mut left) = width else { return (columns, Vec::new()) };
    let mut order: Vec<_> = (0..columns.len()).collect();
    order.sort_by_key(|n| columns[*n].rank);
    let mut kept = vec![false; columns.len()];
    for (n, column) in order.into_iter().enumerate() {
        let gap = if n == 0 { 0 } else { GAP };
        let wanted = columns[column].width();
        let room = left.saturating_sub(gap);
        // A truncated name is useless.
        let is_whole = n == 0 || wanted <= room;
        if !is_whole && room < MIN_CUT {
            break;
        }
        kept[column] = true;
        if !is_whole {
            truncate_cells(&mut columns[column].cells, room);
            break;
        }
        left = room.saturating_sub(wanted);
    }
    let mut hidden = Vec::new();
    let mut flags = kept.iter();
    columns.retain(|column| {
        let is_kept = flags.next().is_some_and(|kept| *kept);
        if !is_kept {
            hidden.push(column.title.clone());
        }
        is_kept
    });
    (columns, hidden)
}

fn truncate_cells(cells: &mut [String], width: usize) {
    for cell in cells.iter_mut().filter(|cell| cell.width() > width) {
        let mut left = width.saturating_sub(1);
        let mut end = 0;
        for (at, c) in cell.char_indices() {
            let Some(rest) = left.checked_sub(c.width().unwrap_or_default()) else { break };
            left = rest;
            end = at + c.len_utf8();
        }
        cell.truncate(end);
        cell.push('…');
    }
}

/// The lines of a table.
pub(super) fn render(columns: &[GridColumn]) -> String {
    let widths: Vec<_> = columns.iter().map(GridColumn::width).collect();
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let title = columns.iter().map(|column| column.title.as_str());
    let mut lines = vec![padded(title, &widths)];
    for row in 0..rows {
        lines.push(padded(columns.iter().map(|column| column.cells[row].as_str()), &widths));
    }
    lines.join("\n")
}

/// Names and values, one pair per line.
pub(super) fn pairs(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.width()).max().unwrap_or_default();
    let lines: Vec<_> = rows
        .iter()
        .map(|(name, value)| padded([name.as_str(), value].into_iter(), &[width, 0]))
        .collect();
    lines.join("\n")
}

fn padded<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', (width + GAP).saturating_sub(cell.width())));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Vec<GridColumn> {
        [
            (1, "NAME", "acme/crm"),
            (3, "SCOPES", "campaigns.read users.read"),
            (2, "STATE", "active"),
        ]
        .into_iter()
        .map(|(rank, title, cell)| GridColumn {
            title: title.to_owned(),
            rank,
            cells: vec![cell.to_owned()],
        })
        .collect()
    }

    fn fitted(width: usize) -> (String, Vec<String>) {
        let (columns, hidden) = fit(grid(), Some(width));
        (render(&columns), hidden)
    }

    #[test]
    fn table_keeps_the_most_important_columns_that_fit() {
        let none: [&str; 0] = [];
        let (table, hidden) = fitted(43);
        assert_eq!(
            table,
            "NAME      SCOPES                     STATE\n\
                           acme/crm  campaigns.read users.read  active"
        );
        assert_eq!(hidden, none);
        let (table, hidden) = fitted(36);
        assert_eq!(
            table,
            "NAME      SCOPES              STATE\nacme/crm  campaigns.read us…  active"
        );
        assert_eq!(hidden, none);
        let (table, hidden) = fitted(30);
        assert_eq!(
            (table.as_str(), hidden),
            ("NAME      STATE\nacme/crm  active", vec!["SCOPES".to_owned()])
        );
        let (table, hidden) = fitted(5);
        assert_eq!((table.as_str(), hidden.len()), ("NAME\nacme/crm", 2));
    }

    #[test]
    fn wide_characters_count_twice() {
        let mut cells = vec!["日本語のアプリケーション".to_owned()];
        truncate_cells(&mut cells, 8);
        assert_eq!(cells, ["日本語…"]);
    }
}
