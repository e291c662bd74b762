//! Looks and sounds without a name.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{default_scenes, share};
use crate::{
    data::Split,
    synth::{sound::level, *},
};

#[test]
fn what_has_no_name_is_never_stated_and_what_is_kept_tells_its_sound() {
    let config = SynthConfig {
        seed: 3,
        unnamed_percent: 100,
        width: 112,
        height: 64,
        ..SynthConfig::default()
    };
    let graphs = scenes(&config).unwrap();
    let plain = scenes(&SynthConfig {
        unnamed_percent: 0,
        ..config
    })
    .unwrap();
    let (mut objects, mut counts) = (0, [0, 0]);
    assert_eq!(graphs.len(), plain.len());
    for (graph, plain) in graphs.iter().zip(&plain) {
        // Nothing else is drawn otherwise: the same is said of the same items with the same sounds.
        assert_eq!((&graph.rows, graph.items()), (&plain.rows, plain.items()));
        let mut named = graph.sounds.clone();
        named.iter_mut().for_each(|sound| sound.voice.unnamed = None);
        assert_eq!(named, plain.sounds);
        if graph.split != Split::Train {
            assert_eq!(graph, plain);
            continue;
        }
        let stated: Vec<Look> = graph
            .rows
            .iter()
            .flat_map(|row| row.meaning.looks.clone())
            .collect();
        for object in &graph.objects {
            objects += 1;
            let Some(unnamed) = object.unnamed else { continue };
            let Class { shape, surface } = object.item.class;
            let (lost, kept) = match unnamed.attribute {
                Attribute::Shape => (Look::Shape(shape), Look::Surface(surface)),
                Attribute::Surface => (Look::Surface(surface), Look::Shape(shape)),
            };
            let alike = graph.objects.iter().any(|other| {
                let attribute = other.unnamed.map(|unnamed| unnamed.attribute);
                other.id != object.id && other.item.looks(kept) && attribute == Some(unnamed.attribute)
            });
            counts[usize::from(unnamed.attribute == Attribute::Surface)] += 1;
            assert!(!stated.contains(&lost) && !alike, "{}", graph.key);
        }
        for sound in &graph.sounds {
            let owner = graph
                .objects
                .iter()
                .find(|object| Some(object.id) == sound.object);
            assert_eq!(sound.voice.unnamed, owner.and_then(|object| object.unnamed));
        }
        let read: SceneGraph = serde_json::from_str(&serde_json::to_string(graph).unwrap()).unwrap();
        let unnamed = |graph: &SceneGraph| {
            let seen = graph.objects.iter().map(|object| object.unnamed);
            let heard = graph.sounds.iter().map(|sound| sound.voice.unnamed);
            seen.chain(heard).collect::<Vec<_>>()
        };
        assert_eq!(unnamed(&read), unnamed(graph));
    }
    let [shapes, surfaces] = counts.map(|count| share(count, objects));
    assert!(
        (0.2..0.6).contains(&shapes) && (0.2..0.6).contains(&surfaces),
        "{shapes} {surfaces}"
    );
}

/// A scene of one object and its sound, without a name for an attribute.
fn nameless(attribute: Option<Attribute>) -> SceneGraph {
    let mut graph = default_scenes(0)
        .iter()
        .find(|graph| graph.sounds.iter().any(|sound| sound.object == Some(1)))
        .unwrap()
        .clone();
    let unnamed = attribute.map(|attribute| Unnamed { attribute, seed: 5 });
    graph.sounds.retain(|sound| sound.object == Some(1));
    graph.objects.truncate(1);
    graph.objects[0].unnamed = unnamed;
    graph.sounds[0].voice.unnamed = unnamed;
    graph
}

#[test]
fn what_has_no_name_looks_and_sounds_otherwise() {
    let rng = || ChaCha8Rng::seed_from_u64(0);
    let rendered = |attribute| {
        let graph = nameless(attribute);
        let frame = paint::frames(&graph, &mut rng()).swap_remove(5);
        (graph.owners(5), frame, sound::mix(&graph.voices(), &mut rng()))
    };
    let (owners, frame, sound) = rendered(None);
    for attribute in [Attribute::Shape, Attribute::Surface] {
        let (others, other, mix) = rendered(Some(attribute));
        assert_eq!(owners != others, attribute == Attribute::Shape);
        // The picture changes where the object is, or was, but for pixels at its rim.
        let changed = |inside: bool| {
            let pixels = frame.pixels().zip(other.pixels()).zip(owners.iter().zip(&others));
            let of = pixels.filter(|(_, (a, b))| (a.is_some() || b.is_some()) == inside);
            let all: Vec<bool> = of.map(|((a, b), _)| a != b).collect();
            share(all.iter().filter(|changed| **changed).count(), all.len())
        };
        assert!(changed(true) > 0.1 && changed(false) < 0.05, "{attribute:?}");
        // As loud, and another sound.
        assert!((level(&sound) - level(&mix)).abs() < 1.0);
        let off: f64 = sound.iter().zip(&mix).map(|(a, b)| (a - b).powi(2)).sum();
        assert!(
            off > 0.1 * sound.iter().map(|v| v * v).sum::<f64>(),
            "{attribute:?}"
        );
    }
    for seed in 0..200 {
        let surface = Unnamed {
            attribute: Attribute::Surface,
            seed,
        };
        let hz = surface.modulation_hz().unwrap();
        assert!(
            Surface::ALL
                .iter()
                .all(|surface| (surface.modulation_hz() - hz).abs() >= 0.8),
            "{hz}"
        );
        assert!(surface.partials().is_none() && surface.outline().is_none());
        let shape = Unnamed {
            attribute: Attribute::Shape,
            seed,
        };
        for (multiple, _) in shape.partials().unwrap() {
            assert!((multiple - multiple.round()).abs() >= 0.25, "{multiple}");
        }
        assert!(shape.modulation_hz().is_none() && shape.pattern().is_none());
    }
}
