//! Pictures of unusual kinds against Pillow.

use burn_love::preprocess::decode_image;
use burn_love_tests::Fixture;

use crate::encoders::beside;

#[test]
fn unusual_pictures_are_pillow_s() {
    let fixture = Fixture::load("pictures");
    for name in fixture.names("") {
        let content = std::fs::read(beside("pictures", name)).unwrap();
        let found = decode_image(&content).unwrap().to_rgb8();
        let expected = fixture.data(name);
        let size = (expected.shape[1] as u32, expected.shape[0] as u32);
        assert_eq!(found.dimensions(), size, "{name}");
        let values = found.as_raw().iter().zip(expected.iter::<f32>());
        let worst = values
            .map(|(found, expected)| (f32::from(*found) - expected).abs())
            .fold(0.0, f32::max);
        // Decoders of JPEG may round the transform and the colours differently.
        let bound = if name.ends_with(".jpg") { 4.0 } else { 0.0 };
        assert!(worst <= bound, "{name}: {worst} levels");
    }
}
