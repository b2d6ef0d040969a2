//! The boxes of an ISO base media file (ISO/IEC 14496-12): HEIF and Canon's CR3 are built of them.

/// A box: its type, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Box<'a> {
    pub(super) kind: [u8; 4],
    pub(super) content: &'a [u8],
}

/// The boxes that lie side by side. Ends where the bytes do, or where a box does not fit in.
pub(super) fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = Box<'_>> {
    std::iter::from_fn(move || {
        let (&[l0, l1, l2, l3, kind @ ..], rest) = bytes.split_first_chunk::<8>()?;
        let (header, length) = match u32::from_be_bytes([l0, l1, l2, l3]) {
            // To the end of the file.
            0 => (8, bytes.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
            length => (8, usize::try_from(length).ok()?),
        };
        let content = bytes.get(header..length)?;
        bytes = &bytes[length..];
        Some(Box { kind, content })
    })
}

/// The contents of the boxes at the end of a path of types.
pub(super) fn at<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Vec<&'a [u8]> {
    path.iter().fold(vec![bytes], |found, kind| {
        let inside = found.into_iter().flat_map(boxes);
        inside.filter(|inner| inner.kind == **kind).map(|inner| inner.content).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_end_where_they_do_not_fit() {
        let bytes = b"\0\0\0\x0aabcdxy\0\0\0\x01wide\0\0\0\0\0\0\0\x11z\0\0\0\x07oops\0\0\0\0rest";
        let found: Vec<_> = boxes(bytes).map(|found| (found.kind, found.content)).collect();
        assert_eq!(found, [(*b"abcd", &b"xy"[..]), (*b"wide", b"z")]);
        assert_eq!(boxes(b"\0\0\0\0restall").next().unwrap().content, b"all");
        assert_eq!(boxes(b"\0\0\0").next(), None);
    }
}
