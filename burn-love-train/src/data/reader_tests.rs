use std::fs;

use image::{Luma, Rgb};
use tempfile::TempDir;

use super::*;

const HEADER: &str = "vid,uid,split,fid,exp\n";

/// A clip `a_b` with three frames, a mask folder, and a muted copy without masks.
fn tiny() -> TempDir {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let rows = "a_b,a_b_cat_1,train,3,The cat.\n\
                a_b,null_m-a_b_null_1,test_n,0,The loudest object\n\
                a_b,a_b_cat_2,TODO,3,NO.\n";
    fs::write(root.join("metadata.csv"), format!("{HEADER}{rows}")).unwrap();
    for key in ["a_b", "null_m-a_b"] {
        let frames = root.join("media").join(key).join("frames");
        fs::create_dir_all(&frames).unwrap();
        for t in 0..3u8 {
            RgbImage::from_pixel(8, 6, Rgb([t * 80, 10, 200]))
                .save(frames.join(format!("{t}.jpg")))
                .unwrap();
        }
        write_wav(&root.join("media").join(key).join("audio.wav"), 3.0);
    }
    let masks = root.join("gt_mask/a_b/fid_3");
    fs::create_dir_all(&masks).unwrap();
    RgbImage::from_fn(8, 6, |x, _| Rgb([0, 0, (x > 3) as u8]))
        .save(masks.join("00000.png"))
        .unwrap();
    GrayImage::from_fn(8, 6, |_, y| Luma([7 * (y == 0) as u8]))
        .save(masks.join("00001.png"))
        .unwrap();
    GrayImage::new(8, 6).save(masks.join("00002.png")).unwrap();
    dir
}

fn write_wav(path: &Path, seconds: f64) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for i in 0..(seconds * 8000.0) as i32 {
        writer.write_sample((i % 100) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

fn open_with(metadata: &str) -> Result<RefAvs, DataError> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("metadata.csv"), metadata).unwrap();
    RefAvs::open(dir.path())
}

#[test]
fn a_whole_data_set_reads() {
    let dir = tiny();
    let data = RefAvs::open(dir.path()).unwrap();
    assert_eq!(
        (data.rows().len(), data.ignored(), data.split(Split::TestN).len()),
        (2, 1, 1)
    );
    let (cat, null) = (&data.rows()[0], &data.rows()[1]);
    assert_eq!(data.frame_count(cat).unwrap(), 3);
    assert_eq!(data.frames(cat).unwrap()[2].dimensions(), (8, 6));
    assert_eq!(data.frame(cat, 1).unwrap(), data.frames(cat).unwrap()[1]);
    let masks = data.masks(cat, 3, (8, 6)).unwrap();
    let areas: Vec<usize> = masks
        .iter()
        .map(|mask| mask.iter().filter(|v| **v == 255).count())
        .collect();
    assert_eq!(areas, [24, 8, 0]);
    assert!(null.is_null());
    assert!(
        data.masks(null, 3, (8, 6))
            .unwrap()
            .iter()
            .all(|mask| mask.iter().all(|v| *v == 0))
    );
    assert!(data.audio(null).unwrap().starts_with(b"RIFF"));
    let validation = data.validate(&Split::ALL);
    assert_eq!((validation.checked, validation.bad.len()), (2, 0));
}

#[test]
fn a_missing_directory_table_or_column_is_named() {
    let error = RefAvs::open(Path::new("/nowhere/at all")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at all") && error.hint().is_some());
    let error = RefAvs::open(TempDir::new().unwrap().path()).unwrap_err();
    assert!(error.path().ends_with("metadata.csv"));
    let error = open_with("vid,uid,split,exp\n").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("vid,uid,split,fid,exp, found vid,uid,split,exp"),
        "{error}"
    );
    assert!(matches!(open_with("").unwrap_err(), DataError::Columns { .. }));
}

#[test]
fn a_bad_line_is_named() {
    let cases = [
        (
            "a,a_b_c,train,0, \n",
            "line 2: expected an expression, found an empty one (uid a_b_c)",
        ),
        (
            "a,a_b_c,train,0,x\na,a_b_d,trian,0,y\n",
            "line 3: expected a split",
        ),
        ("a,a_b,train,0,x\n", "uid of the form"),
        ("a,a_b_c,train\n", "line 2"),
    ];
    for (lines, message) in cases {
        let error = open_with(&format!("{HEADER}{lines}")).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_damaged_clip_is_named_by_reading_and_by_validation() {
    type Damage = fn(&Path);
    let frames = "media/a_b/frames";
    let cases: [(&str, Damage, &str); 8] = [
        (
            "1.jpg",
            |root| fs::remove_file(root.join("media/a_b/frames/1.jpg")).unwrap(),
            "frame 1",
        ),
        (
            "frames/0.jpg",
            |root| {
                for t in 0..3 {
                    fs::remove_file(root.join(format!("media/a_b/frames/{t}.jpg"))).unwrap();
                }
            },
            "frame 0",
        ),
        (
            "2.jpg",
            |root| {
                RgbImage::new(8, 7)
                    .save(root.join("media/a_b/frames/2.jpg"))
                    .unwrap()
            },
            "8×6",
        ),
        (
            "0.jpg",
            |root| fs::write(root.join("media/a_b/frames/0.jpg"), [0xff, 0xd8, 0xff]).unwrap(),
            "decodable",
        ),
        (
            "00001.png",
            |root| fs::remove_file(root.join("gt_mask/a_b/fid_3/00001.png")).unwrap(),
            "a mask",
        ),
        (
            "00001.png",
            |root| {
                GrayImage::new(4, 4)
                    .save(root.join("gt_mask/a_b/fid_3/00001.png"))
                    .unwrap()
            },
            "4×4",
        ),
        (
            "audio.wav",
            |root| write_wav(&root.join("media/a_b/audio.wav"), 2.0),
            "2.00 s",
        ),
        (
            "audio.wav",
            |root| fs::write(root.join("media/a_b/audio.wav"), []).unwrap(),
            "empty",
        ),
    ];
    for (file, damage, message) in cases {
        let dir = tiny();
        damage(dir.path());
        let data = RefAvs::open(dir.path()).unwrap();
        let validation = data.validate(&[Split::Train]);
        assert_eq!(validation.bad.len(), 1, "{file}");
        assert_eq!(
            (validation.bad[0].index, validation.bad[0].uid.as_str()),
            (0, "a_b_cat_1")
        );
        let error = validation.into_result().unwrap_err();
        assert!(
            error.path().ends_with(file) || error.path().ends_with(format!("{frames}/{file}")),
            "{error}"
        );
        assert!(
            error.to_string().contains(message) && error.hint().is_some(),
            "{error}"
        );
        let row = &data.rows()[0];
        let read = data
            .frames(row)
            .map(|_| ())
            .and_then(|()| data.masks(row, 3, (8, 6)).map(|_| ()))
            .and_then(|()| data.audio(row).map(|_| ()));
        // A short but whole sound file is the decoder's to judge; everything else fails here too.
        assert_eq!(read.is_err(), message != "2.00 s", "{file}");
    }
}

#[test]
fn a_frame_truncated_anywhere_is_an_error() {
    let dir = tiny();
    let data = RefAvs::open(dir.path()).unwrap();
    let row = &data.rows()[0];
    let noise = RgbImage::from_fn(96, 64, |x, y| {
        Rgb([((x * 37) ^ (y * 91)) as u8, (x * y) as u8, (x + y) as u8])
    });
    for t in 0..3 {
        noise
            .save(dir.path().join(format!("media/a_b/frames/{t}.jpg")))
            .unwrap();
    }
    assert_eq!(data.frames(row).unwrap().len(), 3);
    let frame = dir.path().join("media/a_b/frames/1.jpg");
    let bytes = fs::read(&frame).unwrap();
    for cut in [2, 30, bytes.len() / 2, bytes.len() - 10, bytes.len()] {
        fs::write(&frame, &bytes[..bytes.len() - cut]).unwrap();
        assert!(data.frames(row).unwrap_err().path().ends_with("1.jpg"));
        assert!(
            data.validate(&[Split::Train])
                .into_result()
                .unwrap_err()
                .path()
                .ends_with("1.jpg")
        );
    }
    fs::write(&frame, [&bytes[..], &[0; 5000]].concat()).unwrap();
    assert_eq!(data.frames(row).unwrap()[1].dimensions(), (96, 64));
}

#[test]
fn a_mask_truncated_anywhere_is_an_error() {
    let dir = tiny();
    let data = RefAvs::open(dir.path()).unwrap();
    let row = &data.rows()[0];
    let mask = data.mask_path(row, 1);
    let bytes = fs::read(&mask).unwrap();
    assert!(data.validate(&[Split::Train]).bad.is_empty());
    for cut in [1, 12, 20, bytes.len() - 40] {
        fs::write(&mask, &bytes[..bytes.len() - cut]).unwrap();
        let bad = data.validate(&[Split::Train]).bad;
        assert_eq!(bad.len(), 1, "{cut} bytes missing");
        assert_eq!(bad[0].error.path(), mask);
    }
    fs::write(&mask, [&bytes[..], &[0; 50]].concat()).unwrap();
    assert!(data.validate(&[Split::Train]).bad.is_empty());
}

#[test]
fn a_truncated_sound_is_an_error() {
    let dir = tiny();
    let sound = dir.path().join("media/a_b/audio.wav");
    let bytes = fs::read(&sound).unwrap();
    fs::write(&sound, &bytes[..bytes.len() / 2]).unwrap();
    let error = RefAvs::open(dir.path())
        .unwrap()
        .validate(&[Split::Train])
        .into_result()
        .unwrap_err();
    assert!(error.to_string().contains("truncated"), "{error}");
}
