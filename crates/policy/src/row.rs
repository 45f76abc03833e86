// SPDX-License-Identifier: Apache-2.0
//! All order is resolved here: the entries that match a peer become entries of a row, where the longest match is final.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::compile::{Origin, Span};
use crate::{Direction, PORT_BITS, RowMatch, RowVerdict};

/// Order of entries; the first wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    Deny,
    Allow,
    Localhost,
}

/// One entry that matches the peer, for one span of ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term<'a> {
    pub(crate) level: Level,
    pub(crate) span: Span,
    pub(crate) origin: Option<&'a Origin>,
}

/// What decides for some packets: a level and who contributes.
pub(crate) type Winner<'a> = Option<(Level, Vec<&'a Origin>)>;

/// Entries of a row for one direction: always one for everything, then what differs from the wider one.
/// `verdict` says what a winner means; `None` is the base, where no entry matches.
pub(crate) fn entries<'a>(
    direction: Direction,
    terms: &[Term<'a>],
    mut verdict: impl FnMut(Winner<'a>) -> RowVerdict,
) -> Vec<(RowMatch, RowVerdict)> {
    let key = |proto, port, port_bits| RowMatch {
        direction,
        proto,
        port,
        port_bits,
    };
    // Neighbours seldom differ in who wins.
    let mut last: Option<(Winner<'a>, RowVerdict)> = None;
    let mut verdict = |winner: Winner<'a>| match &last {
        Some((same, value)) if *same == winner => *value,
        _ => {
            let value = verdict(winner.clone());
            last = Some((winner, value));
            value
        }
    };
    let any = verdict(winner(terms.iter().filter(|t| t.span.proto.is_none())));
    let mut entries = vec![(key(None, 0, 0), any)];
    let protocols: BTreeSet<u8> = terms.iter().filter_map(|t| t.span.proto).collect();
    for proto in protocols {
        let mut about: Vec<Term<'a>> = terms.to_vec();
        about.retain(|t| t.span.proto.is_none_or(|p| p == proto));
        let whole = verdict(winner(about.iter().filter(|t| t.span.is_whole())));
        if whole != any {
            entries.push((key(Some(proto), 0, 0), whole));
        }
        for (first, last, value) in intervals(&about, &mut verdict) {
            if value != whole {
                let parts = prefixes(first, last).into_iter();
                entries.extend(parts.map(|(port, bits)| (key(Some(proto), port, bits), value)));
            }
        }
    }
    entries
}

/// Runs of ports between the ends of spans, neighbours of equal verdict joined. What no narrow span covers is left out.
fn intervals<'a>(
    terms: &[Term<'a>],
    verdict: &mut impl FnMut(Winner<'a>) -> RowVerdict,
) -> Vec<(u16, u16, RowVerdict)> {
    let narrow = terms.iter().filter(|t| !t.span.is_whole());
    let ends = narrow.flat_map(|t| [u32::from(t.span.first), u32::from(t.span.last) + 1]);
    let cuts: Vec<u32> = ends.collect::<BTreeSet<_>>().into_iter().collect();
    let mut coming: Vec<&Term<'a>> = terms.iter().collect();
    coming.sort_unstable_by_key(|t| Reverse(t.span.first));
    let mut covering: Vec<&Term<'a>> = Vec::new();
    let mut runs: Vec<(u16, u16, RowVerdict)> = Vec::new();
    for pair in cuts.windows(2) {
        let (first, last) = (pair[0] as u16, (pair[1] - 1) as u16);
        covering.retain(|t| first <= t.span.last);
        while let Some(term) = coming.pop_if(|t| t.span.first <= first) {
            covering.push(term);
        }
        if covering.iter().all(|t| t.span.is_whole()) {
            continue;
        }
        let value = verdict(winner(covering.iter().copied()));
        match runs.last_mut() {
            Some(run) if run.2 == value && run.1 + 1 == first => run.1 = last,
            _ => runs.push((first, last, value)),
        }
    }
    runs
}

/// The strongest level, and of its terms the widest.
fn winner<'t, 'a: 't>(terms: impl Iterator<Item = &'t Term<'a>> + Clone) -> Winner<'a> {
    let level = terms.clone().map(|t| t.level).min()?;
    let strongest = terms.filter(|t| t.level == level);
    let width = strongest.clone().map(|t| t.span.width()).max()?;
    let widest = strongest.filter(|t| t.span.width() == width);
    Some((level, widest.filter_map(|t| t.origin).collect()))
}

/// The fewest aligned blocks that make up a range of ports: first port and significant bits.
fn prefixes(first: u16, last: u16) -> Vec<(u16, u8)> {
    let (mut next, end) = (u32::from(first), u32::from(last));
    let mut blocks = Vec::new();
    while next <= end {
        let aligned = if next == 0 {
            u32::from(PORT_BITS)
        } else {
            next.trailing_zeros()
        };
        let fitting = (end - next + 1).ilog2();
        let bits = aligned.min(fitting).min(u32::from(PORT_BITS));
        blocks.push((next as u16, PORT_BITS - bits as u8));
        next += 1 << bits;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_blocks() {
        assert_eq!(prefixes(80, 80), [(80, 16)]);
        assert_eq!(prefixes(0, 65535), [(0, 0)]);
        assert_eq!(prefixes(8, 11), [(8, 14)]);
        assert_eq!(prefixes(1, 4), [(1, 16), (2, 15), (4, 16)]);
        for (first, last) in [(1, 65535), (80, 443), (1023, 1025), (65535, 65535)] {
            let mut next = u32::from(first);
            for (port, bits) in prefixes(first, last) {
                assert_eq!(u32::from(port), next);
                next += 1 << (PORT_BITS - bits);
            }
            assert_eq!(next, u32::from(last) + 1);
        }
    }
}
