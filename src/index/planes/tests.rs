use proptest::prelude::*;

use super::*;

/// Both files of some vectors.
fn written(all: &[Embedding]) -> (Mmap, Mmap) {
    let (mut rough, mut fine) = (Vec::new(), Vec::new());
    let (mut rough_row, mut fine_row) = (Vec::new(), Vec::new());
    for embedding in all {
        split(embedding.as_slice(), &mut rough_row, &mut fine_row);
        rough.extend_from_slice(&rough_row);
        fine.extend_from_slice(&fine_row);
    }
    let map = |bytes: Vec<u8>| {
        let mut map = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
        map.copy_from_slice(&bytes);
        map.make_read_only().unwrap()
    };
    (map(rough), map(fine))
}

/// Vectors of any shape: of zeros but for a few, of one large component, all the same, with signs and without.
fn vectors() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let component = prop_oneof![Just(0.0f32), 0.0f32..1.0, -1.0f32..1.0, Just(1.0), Just(30.0)];
    let pair = move |width: usize| {
        let free = prop::collection::vec(component.clone(), width);
        let same = (0.1f32..1.0).prop_map(move |v| vec![v; width]);
        prop::collection::vec(prop_oneof![8 => free, 1 => same], 2)
    };
    (1usize..300).prop_flat_map(pair)
}

/// As wide as models may be (`src/model/manifest.rs`), as networks give it: more zeros than not, and a few that are large.
#[test]
fn the_widest_vectors_are_no_less_exact() {
    let mut state = 1;
    let mut vector = || {
        let mut random = || (split_mix(&mut state) >> 40) as f32 / (1 << 24) as f32;
        let values: Vec<f32> = (0..1 << 16).map(|_| (random() - 0.6).max(0.0).powi(3)).collect();
        Embedding::normalised(&values).unwrap()
    };
    let all = [vector(), vector()];
    let (rough, fine) = written(&all);
    let planes = Planes::new(&rough, &fine, 1 << 16);
    let query = Query::new(&all[0]);
    let expected = all[0].cosine(&all[1]);
    let found = planes.rough(&query, 1).unwrap();
    assert!((found.cosine - f64::from(expected)).abs() <= found.margin, "{found:?} {expected}");
    let cosine = planes.cosine(&query, 1).unwrap();
    assert!((cosine - expected).abs() < 1e-6, "{cosine} {expected}");
    assert_eq!(planes.cosine(&query, 0), Some(1.0));
}

proptest! {
    #[test]
    fn cosines_are_those_of_the_vectors(vectors in vectors()) {
        let all = vectors.iter().map(|values| Embedding::normalised(values));
        let Ok(all) = all.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        let width = all[0].width();
        let (rough, fine) = written(&all);
        let planes = Planes::new(&rough, &fine, width);
        prop_assert_eq!(planes.len(), 2);
        for embedding in &all {
            let query = Query::new(embedding);
            for (point, other) in (0..).zip(&all) {
                let rough = planes.rough(&query, point).unwrap();
                let cosine = planes.cosine(&query, point).unwrap();
                let expected = embedding.cosine(other);
                prop_assert!((cosine - expected).abs() < 1.5e-7, "{cosine} {expected}");
                prop_assert!((rough.cosine - f64::from(expected)).abs() <= rough.margin + 1e-7);

                if other == embedding {
                    prop_assert_eq!(cosine, 1.0);
                }
                let mut floats = Vec::new();
                planes.extend(point, &mut floats).unwrap();
                let off = floats.iter().zip(other.as_slice()).map(|(a, b)| (a - b).abs());
                prop_assert!(off.fold(0.0, f32::max) < 1e-7);
            }
        }
    }
}

#[test]
fn a_row_that_was_altered_is_told() {
    let [a, b] = [[3.0, 4.0, 0.0], [0.0, 1.0, 1.0]].map(|v| Embedding::normalised(&v).unwrap());
    let (rough, fine) = written(&[a.clone(), b.clone()]);
    let query = Query::new(&b);
    let altered = |of: &Mmap, alter: &dyn Fn(&mut [u8])| {
        let mut altered = memmap2::MmapMut::map_anon(of.len()).unwrap();
        altered.copy_from_slice(of);
        alter(&mut altered);
        altered.make_read_only().unwrap()
    };
    let cosine =
        |rough: &Mmap, fine: &Mmap, point: u32| Planes::new(rough, fine, 3).cosine(&query, point);
    assert!((cosine(&rough, &fine, 0).unwrap() - a.cosine(&b)).abs() < 1e-7);
    for bit in 0..8 * (HEADER + 3) {
        let flipped = altered(&rough, &|row| row[bit / 8] ^= 1 << (bit % 8));
        assert_eq!(cosine(&flipped, &fine, 0), None, "{bit}");
        assert_eq!(cosine(&flipped, &fine, 1), Some(1.0));
    }
    let nothing = [&rough, &fine].map(|file| altered(file, &|row| row.fill(0)));
    for (rough, fine) in [(&nothing[0], &fine), (&rough, &nothing[1]), (&nothing[0], &nothing[1])] {
        assert_eq!(cosine(rough, fine, 0), None);
    }
    for step in [f32::NAN, f32::INFINITY, 1.0] {
        let bytes = step.to_le_bytes();
        let rough = altered(&rough, &|row| row[4..8].copy_from_slice(&bytes));
        let read = Planes::new(&rough, &fine, 3).rough(&query, 0);
        assert!(read.is_none() || step == 1.0, "{read:?}");
    }
}
