//! Pagination (AIP-158).

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    size: u16,
    /// The key of the last item of the previous page. `None`: the first page.
    pub after: Option<String>,
}

impl PageRequest {
    const DEFAULT_SIZE: u16 = 50;
    const MAX_SIZE: u16 = 1000;

    /// A page of `size` items. 0 means the default; larger sizes are reduced to the maximum.
    /// Returns `None` if `size` is negative.
    pub fn new(size: i32, after: Option<String>) -> Option<Self> {
        let size = match u16::try_from(size) {
            Ok(0) => Self::DEFAULT_SIZE,
            Ok(size) => size.min(Self::MAX_SIZE),
            Err(_) if size > 0 => Self::MAX_SIZE,
            Err(_) => return None,
        };
        Some(Self { size, after })
    }

    /// A page of the maximum size.
    pub fn largest(after: Option<String>) -> Self {
        Self { size: Self::MAX_SIZE, after }
    }

    /// The maximum number of items on the page.
    pub fn size(&self) -> usize {
        usize::from(self.size)
    }

    /// The number of items to read: one more than the page, to detect whether more follow.
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Builds the page from the items that were read. `key` returns an item's key.
    pub fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let more = items.len() > usize::from(self.size);
        items.truncate(usize::from(self.size));
        let keys: Vec<_> = items.iter().map(key).collect();
        let next = keys.last().filter(|_| more).cloned();
        Page { items, keys, next }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The key of each item. The page can be shortened after any of them.
    pub keys: Vec<String>,
    /// The key after which the next page starts. `None` on the last page.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_detects_whether_more_items_follow() {
        let request = PageRequest::new(2, None).unwrap();
        let page = request.page(vec![1, 2, 3], ToString::to_string);
        assert_eq!((&page.items[..], page.next), (&[1, 2][..], Some("2".to_owned())));
        let page = request.page(vec![1, 2], ToString::to_string);
        assert_eq!((&page.items[..], page.next), (&[1, 2][..], None));
    }

    #[test]
    fn page_size_has_a_default_and_a_maximum() {
        let limit = |size| PageRequest::new(size, None).map(|r| r.limit());
        assert_eq!(limit(0), Some(51));
        assert_eq!(limit(i32::MAX), Some(1001));
        assert_eq!(limit(-1), None);
    }
}
