//! Pages of a list (AIP-158).

/// What part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    size: u16,
    /// The key of the last item of the page before; `None`: the first page.
    pub after: Option<String>,
}

impl PageRequest {
    const DEFAULT_SIZE: u16 = 50;
    const MAX_SIZE: u16 = 1000;

    /// A page of the given size: 0 is the default, too large is the largest.
    /// `None` when the size is negative.
    pub fn new(size: i32, after: Option<String>) -> Option<Self> {
        let size = match u16::try_from(size) {
            Ok(0) => Self::DEFAULT_SIZE,
            Ok(size) => size.min(Self::MAX_SIZE),
            Err(_) if size > 0 => Self::MAX_SIZE,
            Err(_) => return None,
        };
        Some(Self { size, after })
    }

    /// The first page, as large as pages get.
    pub fn largest(after: Option<String>) -> Self {
        Self { size: Self::MAX_SIZE, after }
    }

    /// How many items the page has at most.
    pub fn size(&self) -> usize {
        usize::from(self.size)
    }

    /// How many items to read: one more than the page, to know whether there are more.
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The page made of what was read, `key` naming an item.
    pub fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let more = items.len() > usize::from(self.size);
        items.truncate(usize::from(self.size));
        Page { keys: items.iter().map(key).collect(), items, more }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The key of each: a page may be cut behind any of them.
    pub keys: Vec<String>,
    /// Whether there are more items behind them.
    pub more: bool,
}

impl<T> Page<T> {
    /// Where the next page begins; `None` on the last one.
    pub fn next(&self) -> Option<String> {
        self.keys.last().filter(|_| self.more).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_it_is_the_last() {
        let request = PageRequest::new(2, None).unwrap();
        let page = request.page(vec![1, 2, 3], ToString::to_string);
        assert_eq!((&page.items[..], page.next()), (&[1, 2][..], Some("2".to_owned())));
        let page = request.page(vec![1, 2], ToString::to_string);
        assert_eq!((&page.items[..], page.next()), (&[1, 2][..], None));
    }

    #[test]
    fn sizes_are_defaulted_and_capped_but_never_negative() {
        let limit = |size| PageRequest::new(size, None).map(|r| r.limit());
        assert_eq!(limit(0), Some(51));
        assert_eq!(limit(i32::MAX), Some(1001));
        assert_eq!(limit(-1), None);
    }
}
