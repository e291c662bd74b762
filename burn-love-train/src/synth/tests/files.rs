//! Facts about the files of a small data set.

use super::*;

#[test]
fn sounds_have_their_levels_in_the_file() {
    let dir = TempDir::new().unwrap();
    generate(&tiny(7), dir.path(), &|_, _| ()).unwrap();
    let mut measured = 0;
    for graph in read_graphs(dir.path()).unwrap() {
        let path = dir.path().join("media").join(&graph.key).join("audio.wav");
        let mut reader = hound::WavReader::open(path).unwrap();
        assert_eq!(
            (
                reader.spec().sample_rate,
                reader.spec().channels,
                reader.duration()
            ),
            (16_000, 1, 160_000)
        );
        let samples: Vec<f64> = reader
            .samples::<i16>()
            .map(|v| f64::from(v.unwrap()) / 32768.0)
            .collect();
        assert!(
            samples.iter().all(|v| v.abs() < 0.9999),
            "{} is clipped",
            graph.key
        );
        for second in 0..SECONDS {
            let now: Vec<&Voice> = graph
                .sounds
                .iter()
                .map(|sound| &sound.voice)
                .filter(|voice| voice.sounds_in(second))
                .collect();
            assert!(now.len() <= AT_ONCE);
            let found = level(&samples[(second * 16_000) as usize..][..16_000]);
            let wanted = match now[..] {
                [] => BACKGROUND_DBFS,
                [one] => one.level_dbfs,
                _ => continue,
            };
            assert!(
                (found - wanted).abs() < 1.0,
                "{} second {second}: {found}, not {wanted} dBFS",
                graph.key
            );
            measured += 1;
        }
        let mut levels: Vec<f64> = graph.sounds.iter().map(|sound| sound.voice.level_dbfs).collect();
        levels.sort_by(f64::total_cmp);
        assert!(levels.windows(2).all(|pair| pair[1] - pair[0] >= 6.0));
        assert!(
            graph
                .sounds
                .iter()
                .all(|sound| (200.0..=900.0).contains(&sound.voice.pitch_hz))
        );
    }
    assert!(measured > 50);
}

#[test]
fn the_files_read_back_and_do_not_depend_on_threads() {
    let generated = |threads: usize, seed: u64| {
        let dir = TempDir::new().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let calls = std::sync::Mutex::new(Vec::new());
        let progress = |done, total| calls.lock().unwrap().push((done, total));
        let summary = pool
            .install(|| generate(&tiny(seed), dir.path(), &progress))
            .unwrap();
        let calls = calls.into_inner().unwrap();
        assert!(calls.is_sorted() && calls.last() == Some(&(19, 19)));
        (dir, summary)
    };
    let ((one, summary), (two, _), (other, _)) = (generated(1, 0), generated(2, 0), generated(2, 1));
    let hashes = hashes(one.path());
    assert_eq!(hashes, self::hashes(two.path()));
    assert_ne!(hashes, self::hashes(other.path()));

    let data = RefAvs::open(one.path()).unwrap();
    assert_eq!((data.rows().len(), data.ignored()), (summary.rows, 0));
    assert_eq!(
        data.rows().iter().filter(|row| row.is_null()).count(),
        summary.nulls
    );
    assert!(data.validate(&Split::ALL).bad.is_empty());
    let made = read_graphs(one.path()).unwrap();
    let graphs = &made[..];
    assert_eq!(graphs.len(), summary.folders);
    assert_eq!(ceilings(one.path()).unwrap().full.all, 1.0);
    let by_uid: HashMap<&str, (&SceneGraph, &RowGraph)> = rows(graphs)
        .map(|(graph, row)| (row.uid.as_str(), (graph, row)))
        .collect();
    for row in data.rows() {
        let (graph, known) = by_uid[row.uid.as_str()];
        assert_eq!(
            (row.is_null(), &row.expression),
            (is_null(known), &known.expression)
        );
        let masks = data.masks(row, 10, (64, 48)).unwrap();
        for (t, mask) in masks.iter().enumerate() {
            let target = graph
                .objects
                .iter()
                .find(|object| Some(object.id) == known.target);
            let area = target.map_or(0.0, |object| object.frames[t].area);
            let found = mask.iter().filter(|v| **v == 255).count() as f64 / (64.0 * 48.0);
            assert!((found - area).abs() < 1e-9, "{} {t}", row.uid);
        }
    }
    for graph in graphs
        .iter()
        .filter(|graph| graph.twin.is_some() || graph.whole.is_some())
    {
        let other = graph.twin.as_ref().or(graph.whole.as_ref()).unwrap();
        for t in 0..10 {
            let frame = |key: &str| fs::read(one.path().join(format!("media/{key}/frames/{t}.jpg"))).unwrap();
            assert_eq!(frame(&graph.key), frame(other));
        }
        let sound = |key: &str| fs::read(one.path().join(format!("media/{key}/audio.wav"))).unwrap();
        assert_ne!(sound(&graph.key), sound(other));
    }
}

fn hashes(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, Sha256::digest(fs::read(&path).unwrap()).to_vec());
            }
        }
    }
    found
}
