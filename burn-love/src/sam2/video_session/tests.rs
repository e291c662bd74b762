//! What a session promises, on a small model with random weights.

use burn::tensor::Distribution;
use burn_flex::Flex;

use super::*;
use crate::sam2::{PointLabel, Prompt, Sam2Config, Tracker, TrackerConfig};

type Session<'a> = VideoSession<'a, Flex>;

const SIZE: [usize; 2] = [48, 80];

/// A model that sees every object everywhere: what is absent has no mask to compare.
fn model() -> Sam2<Flex> {
    let mut model: Sam2<Flex> = Sam2Config::nano().with_image_size(64).init(&Default::default());
    let head = model
        .sam_mask_decoder
        .pred_obj_score_head
        .layers
        .last_mut()
        .unwrap();
    head.bias = head
        .bias
        .take()
        .map(|bias| bias.map(|values| values.ones_like() * 10.0));
    model
}

fn features(model: &Sam2<Flex>, frames: usize) -> Vec<ImageFeatures<Flex>> {
    let device = Default::default();
    let frame = |_| model.forward_image(Tensor::random([1, 3, 64, 64], Distribution::Default, &device));
    (0..frames).map(frame).collect()
}

fn click(x: f32) -> PointPrompt {
    PointPrompt::new().point([x, 20.0], PointLabel::Positive)
}

fn logits(masks: &FrameMasks<Flex>) -> Vec<f32> {
    masks.video_logits().into_data().to_vec().unwrap()
}

/// Logits of every frame from `range`.
fn track(
    session: &mut Session<'_>,
    features: &[ImageFeatures<Flex>],
    range: impl Iterator<Item = usize>,
    direction: Direction,
) -> Vec<Vec<f32>> {
    range
        .map(|frame| logits(&session.track(frame, &features[frame], direction).unwrap()))
        .collect()
}

#[test]
fn bad_requests_are_errors_and_leave_the_session_as_it_was() {
    let model = model();
    let features = features(&model, 1);
    let mut session = Session::new(&model, VideoConfig::new(SIZE).with_frames(Some(3)));
    let track = |session: &mut Session<'_>, frame| {
        session
            .track(frame, &features[0], Direction::Forward)
            .unwrap_err()
    };
    assert_eq!(track(&mut session, 0), VideoError::NoObject);
    assert_eq!(track(&mut session, 3), VideoError::Frame { frame: 3, frames: 3 });

    let mut add = |frame, prompt| session.add_points(frame, &features[0], 7, prompt).unwrap_err();
    assert_eq!(add(5, click(1.0)), VideoError::Frame { frame: 5, frames: 3 });
    assert_eq!(add(0, PointPrompt::new()), VideoError::EmptyPrompt);
    let late = PointPrompt::new().bounds([0.0, 0.0, 9.0, 9.0]).keep_previous();
    assert_eq!(add(0, late), VideoError::LateBox);
    assert!(matches!(add(0, click(f32::NAN)), VideoError::Coordinate { .. }));
    assert_eq!(session.objects().count(), 0);

    session.add_points(0, &features[0], 7, click(30.0)).unwrap();
    let unknown = VideoError::Object {
        object: 8,
        known: vec![7],
    };
    assert_eq!(session.remove_object(8).unwrap_err(), unknown);
    session.clear_prompts(0, 7).unwrap();
    let unprompted = session.track(0, &features[0], Direction::Forward).unwrap_err();
    assert_eq!(unprompted, VideoError::NoPrompt { object: 7 });
}

#[test]
fn a_refinement_without_any_prompt_left_is_refused() {
    let model = model();
    let features = features(&model, 3);
    let mut session = Session::new(&model, VideoConfig::new(SIZE));
    session.add_points(0, &features[0], 7, click(30.0)).unwrap();
    for (frame, features) in features.iter().enumerate() {
        session.track(frame, features, Direction::Forward).unwrap();
    }
    session.clear_prompts(0, 7).unwrap();
    let refused = Err(VideoError::NoPrompt { object: 7 });
    assert_eq!(
        session.add_points(2, &features[2], 7, click(9.0)).map(drop),
        refused
    );
    assert_eq!(session.first_prompted_frame(), None);
    // A prompt where nothing was tracked names the object anew, and tracking settles it.
    session.add_points(0, &features[0], 7, click(30.0)).unwrap();
    assert_eq!(
        session.add_points(2, &features[2], 7, click(9.0)).map(drop),
        refused
    );
    session.track(0, &features[0], Direction::Forward).unwrap();
    session.add_points(2, &features[2], 7, click(9.0)).unwrap();
}

#[test]
fn frames_of_another_size_or_number_are_refused() {
    let model = model();
    let features = features(&model, 1);
    let mut session = Session::new(&model, VideoConfig::new(SIZE));
    session.add_points(0, &features[0], 7, click(30.0)).unwrap();
    for found in [[1, 3, 96, 64], [1, 3, 32, 32], [2, 3, 64, 64]] {
        let frame = Tensor::zeros(found, &Default::default());
        let error = session
            .propagate([(1, frame)], Direction::Forward)
            .next()
            .unwrap();
        assert_eq!(error.unwrap_err(), VideoError::FrameShape { side: 64, found });
    }
    let two = model.forward_image(Tensor::zeros([2, 3, 64, 64], &Default::default()));
    let refused = Err(VideoError::Features { found: 2 });
    assert_eq!(session.add_points(0, &two, 7, click(1.0)).map(drop), refused);
    assert_eq!(session.track(1, &two, Direction::Forward).map(drop), refused);
    let mask = Tensor::ones([1, 1, 64, 64], &Default::default());
    assert_eq!(session.add_mask(0, &two, 7, mask).map(drop), refused);
}

#[test]
fn objects_do_not_disturb_each_other() {
    let model = model();
    let features = features(&model, 3);
    let config = VideoConfig::new(SIZE).with_frames(Some(3));
    let mut alone = Session::new(&model, config.clone());
    alone.add_points(0, &features[0], 1, click(30.0)).unwrap();
    let expected = track(&mut alone, &features, 0..3, Direction::Forward);

    let mut both = Session::new(&model, config);
    both.add_points(0, &features[0], 1, click(30.0)).unwrap();
    both.add_points(1, &features[1], 2, click(60.0)).unwrap();
    both.track(0, &features[0], Direction::Forward).unwrap();
    both.remove_object(2).unwrap();
    assert_eq!(
        track(&mut both, &features, 1..3, Direction::Forward),
        expected[1..]
    );
}

#[test]
fn without_overlap_a_pixel_belongs_to_the_strongest_object() {
    let model = model();
    let features = features(&model, 1);
    let config = VideoConfig::new(SIZE).with_non_overlapping(true);
    let mut session = Session::new(&model, config);
    session.add_points(0, &features[0], 1, click(20.0)).unwrap();
    let mut masks = session.add_points(0, &features[0], 2, click(60.0)).unwrap();
    let kept = logits(&masks);
    masks.non_overlapping = false;
    let free = logits(&masks);
    let pixels = SIZE[0] * SIZE[1];
    for i in 0..pixels {
        let (one, two) = (free[i], free[pixels + i]);
        let expected = if one >= two {
            [one, two.min(-10.0)]
        } else {
            [one.min(-10.0), two]
        };
        assert_eq!([kept[i], kept[pixels + i]], expected);
    }
}

#[test]
fn a_short_history_changes_nothing_between_prompts_and_the_last_frame() {
    let model = model();
    let features = features(&model, 24);
    let run = |history| {
        let config = VideoConfig::new(SIZE).with_frames(Some(24)).with_history(history);
        let mut session = Session::new(&model, config);
        session.add_points(4, &features[4], 1, click(30.0)).unwrap();
        let mut all = track(&mut session, &features, 4..24, Direction::Forward);
        all.extend(track(&mut session, &features, (0..5).rev(), Direction::Backward));
        session.add_points(20, &features[20], 2, click(50.0)).unwrap();
        all.extend(track(&mut session, &features, 20..24, Direction::Forward));
        all
    };
    assert!(run(History::Recent) == run(History::Full));
}

#[test]
fn a_short_history_keeps_what_the_way_back_from_another_object_s_prompt_needs() {
    let model = model();
    let features = features(&model, 24);
    let run = |history| {
        let config = VideoConfig::new(SIZE).with_frames(Some(24)).with_history(history);
        let mut session = Session::new(&model, config);
        session.add_points(2, &features[2], 1, click(30.0)).unwrap();
        session.add_points(22, &features[22], 2, click(50.0)).unwrap();
        track(&mut session, &features, 2..24, Direction::Forward);
        track(&mut session, &features, (0..3).rev(), Direction::Backward)
    };
    assert!(run(History::Recent) == run(History::Full));
}

#[test]
fn after_a_reset_nothing_is_known() {
    let model = model();
    let features = features(&model, 3);
    let config = VideoConfig::new(SIZE).with_frames(Some(3));
    let mut session = Session::new(&model, config);
    let run = |session: &mut Session<'_>| {
        session.add_points(1, &features[1], 4, click(30.0)).unwrap();
        track(session, &features, 1..3, Direction::Forward)
    };
    session.add_points(0, &features[0], 4, click(70.0)).unwrap();
    let other = track(&mut session, &features, 0..3, Direction::Forward);
    session.reset();
    assert_eq!(session.objects().count(), 0);
    assert_eq!(session.first_prompted_frame(), None);
    let fresh = run(&mut session);
    assert!(fresh != other[1..]);
    let mut second = Session::new(&model, VideoConfig::new(SIZE).with_frames(Some(3)));
    assert!(fresh == run(&mut second));
}

#[test]
fn a_mask_of_more_than_one_picture_is_refused() {
    let model = model();
    let features = features(&model, 1);
    let mut session = Session::new(&model, VideoConfig::new(SIZE));
    for shape in [[2, 1, 48, 80], [1, 3, 48, 80]] {
        let mask = Tensor::ones(shape, &Default::default());
        let error = session.add_mask(0, &features[0], 1, mask).unwrap_err();
        assert_eq!(error, VideoError::MaskShape { found: shape });
    }
    assert_eq!(session.objects().count(), 0);
}

#[test]
fn a_refinement_lasts_only_where_it_is_asked_to() {
    let model = model();
    let features = features(&model, 4);
    let run = |lasting: bool, refine: bool| {
        let config = VideoConfig::new(SIZE)
            .with_frames(Some(4))
            .with_refined_as_conditioning(lasting);
        let mut session = Session::new(&model, config);
        session.add_points(0, &features[0], 1, click(30.0)).unwrap();
        track(&mut session, &features, 0..4, Direction::Forward);
        if refine {
            session.add_points(2, &features[2], 1, click(70.0)).unwrap();
        }
        track(&mut session, &features, 0..4, Direction::Forward).remove(2)
    };
    assert!(run(false, true) == run(false, false));
    assert!(run(true, true) != run(true, false));
}

#[test]
fn a_mask_prompt_comes_back_as_it_is() {
    let model = model();
    let features = features(&model, 2);
    let config = VideoConfig::new([64, 64]).with_fill_hole_area(0);
    let tracker = TrackerConfig::new()
        .with_binarize_prompted(config.binarize_prompted)
        .with_round_memory(config.round_memory)
        .with_frames(config.frames);
    let mut session = Session::new(&model, config);
    let device = Default::default();
    let inside: Vec<f32> = (0..64 * 64)
        .map(|i| f32::from((8..40).contains(&(i % 64)) && i / 64 >= 24))
        .collect();
    let mask = Tensor::from_data(TensorData::new(inside.clone(), [1, 1, 64, 64]), &device);
    let masks = session.add_mask(0, &features[0], 3, mask.clone()).unwrap();
    let agree = logits(&masks)
        .iter()
        .zip(&inside)
        .filter(|(logit, inside)| (**logit > 0.0) == (**inside > 0.5))
        .count();
    assert!(agree > 64 * 64 * 98 / 100, "{agree} of {} pixels", 64 * 64);
    let tracked = session.track(1, &features[1], Direction::Forward).unwrap();
    assert!(logits(&tracked).iter().all(|logit| logit.is_finite()));

    // Tracking without interaction does the same.
    let (mut session, first) = Tracker::new(&model, tracker).start(&features[0], Prompt::Mask(mask));
    let second = session.step(&features[1]);
    for (found, expected) in [(first, &masks.objects[0]), (second, &tracked.objects[0])] {
        let expected = expected.low_res_logits.clone().into_data();
        found.low_res_logits.into_data().assert_eq(&expected, true);
    }
}
