use super::*;
use crate::testing::{N_TRAIN, SEED, SIDE, batches, dataset};

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("floats")
}

/// Ids, images and targets.
type Values = (Vec<u32>, Vec<f32>, Vec<f32>);

/// The batches of an epoch; memory is given back after each.
fn epoch(batches: &Batches, epoch: u32, skip: usize) -> Result<Vec<Values>> {
    let mut stream = batches.train(epoch, skip)?;
    let mut all = Vec::new();
    while let Some(batch) = stream.next().transpose()? {
        all.push((batch.ids.clone(), values(&batch.images), values(&batch.targets)));
        stream.give_back(batch);
    }
    Ok(all)
}

#[test]
fn an_epoch_has_whole_batches_of_different_images() -> Result<()> {
    let batches = batches(8, SEED)?;
    let all = epoch(&batches, 0, 0)?;
    assert_eq!((all.len(), batches.steps_per_epoch()), (6, 6));
    let mut ids: Vec<u32> = all.iter().flat_map(|(ids, ..)| ids.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 48 && ids.iter().all(|&id| (id as usize) < N_TRAIN));
    assert!(all.iter().all(|(_, images, targets)| images.len() == 8 * SIDE * SIDE && targets.len() == 24));
    Ok(())
}

#[test]
fn batches_are_functions_of_seed_and_epoch() -> Result<()> {
    let batches_ = batches(8, SEED)?;
    let all = epoch(&batches_, 3, 0)?;
    assert_eq!(epoch(&batches_, 3, 0)?, all);
    assert_eq!(epoch(&batches_, 3, 4)?, all[4..]);
    assert_eq!(epoch(&batches_, 3, 99)?, []);
    assert_ne!(epoch(&batches_, 4, 0)?, all);
    assert_ne!(epoch(&batches(8, 1)?, 3, 0)?, all);
    Ok(())
}

#[test]
fn memory_that_is_kept_is_not_written_to() -> Result<()> {
    let batches = batches(8, SEED)?;
    let want = epoch(&batches, 0, 0)?;
    let kept: Vec<Batch> = batches.train(0, 0)?.collect::<Result<_>>()?;
    assert!(kept.iter().zip(&want).all(|(batch, (_, images, _))| values(&batch.images) == *images));
    Ok(())
}

#[test]
fn evaluation_sees_whole_images_in_order() -> Result<()> {
    let batches = batches(8, SEED)?;
    let ids: Vec<u32> = (0..19).rev().collect();
    let all: Vec<Batch> = batches.eval(&ids)?.collect::<Result<_>>()?;
    assert_eq!(all.iter().map(|b| b.ids.len()).collect::<Vec<_>>(), [8, 8, 3]);
    assert_eq!(all.iter().flat_map(|b| b.ids.clone()).collect::<Vec<_>>(), ids);
    let data = dataset();
    let first = data.pixels().image(18).pixels.iter().map(|&p| ((f64::from(p) / 255.0 - 0.15) / 0.3) as f32);
    let close = |(a, b): (f32, f32)| (a - b).abs() < 1e-6;
    assert!(values(&all[0].images).into_iter().zip(first).all(close));
    assert_eq!(values(&all[0].targets)[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    Ok(())
}

#[test]
fn grey_images_may_come_as_planes() -> Result<()> {
    let (train, eval) = (Policy::whole(SIDE as u32)?, Policy::whole(SIDE as u32)?);
    let normalisation = Normalisation::imagenet();
    let config = BatchConfig { normalisation, planes: Planes::Grey, ..BatchConfig::new(train, eval) };
    let batches = Batches::new(dataset(), BatchConfig { batch_size: 8, ..config }, SEED)?;
    // From the second batch on, memory is used again.
    for (ids, images, _) in epoch(&batches, 0, 0)? {
        let data = dataset();
        let levels = ids.iter().flat_map(|&id| data.pixels().image(id).pixels.to_vec());
        assert!(images.into_iter().eq(levels.flat_map(|level| [f32::from(level) / 255.0, 1.0])));
    }
    Ok(())
}

#[test]
fn an_error_of_the_source_comes_up_and_ends_the_stream() -> Result<()> {
    let mut stream = batches(8, SEED)?.eval(&[1, 2, 3, 4, 5, 6, 7, 8, 100, 9, 10, 11, 12, 13, 14, 15, 16])?;
    assert!(stream.next().is_some_and(|batch| batch.is_ok()));
    assert!(matches!(stream.next(), Some(Err(Error::NoSuchImage { id: 100, .. }))));
    assert!(stream.next().is_none());
    Ok(())
}

#[test]
fn two_streams_can_run_side_by_side() -> Result<()> {
    let batches = batches(8, SEED)?;
    let (train, eval) = (batches.train(0, 0)?, batches.eval(&[0, 1, 2])?);
    assert_eq!((eval.count(), train.count()), (1, 6));
    Ok(())
}

/// Draws its images, other ones each epoch.
struct Endless;

impl Source for Endless {
    fn n_classes(&self) -> usize {
        2
    }
    fn n_train(&self) -> usize {
        4
    }
    fn train_order(&self, _: u64, epoch: u32) -> Result<Vec<u32>> {
        Ok((epoch * 4..epoch * 4 + 4).collect())
    }
    fn val_ids(&self) -> &[u32] {
        &[]
    }
    fn images<'a>(&'a self, ids: &[u32], room: &'a mut Vec<u8>) -> Result<Vec<Image<'a>>> {
        room.clear();
        room.extend(ids.iter().flat_map(|&id| [id as u8; 4]));
        Ok(room.chunks_exact(4).map(|pixels| Image { pixels, height: 2, width: 2, channels: 1 }).collect())
    }
    fn targets(&self, ids: &[u32]) -> Result<Vec<f32>> {
        if ids.contains(&13) {
            return Err(Error::data(std::io::Error::other("the pen is dry")));
        }
        Ok(ids.iter().flat_map(|id| [(id % 2) as f32, 0.0]).collect())
    }
}

#[test]
fn a_source_may_draw_its_images() -> Result<()> {
    let config = BatchConfig { batch_size: 2, channels: 1, ..BatchConfig::new(Policy::whole(2)?, Policy::whole(2)?) };
    let batches = Batches::new(Arc::new(Endless), config, SEED)?;
    let second = epoch(&batches, 2, 1)?;
    assert_eq!(second, [(vec![10, 11], [[10.0 / 255.0; 4], [11.0 / 255.0; 4]].concat(), vec![0.0, 0.0, 1.0, 0.0])]);
    let error = epoch(&batches, 3, 0).expect_err("a dry pen");
    assert_eq!(error.to_string(), "cannot read the data");
    Ok(())
}
