//! An object of 256 bytes taken from a pool, written to and given back. Pools that move what they lend hold it in a box.

use super::super::{Context, Limit::*, Outcome, Row, Unit::*};
use super::leak;
use super::timing::{cost, two_threads};
use crossbeam_queue::ArrayQueue;
use lockfree_object_pool::{LinearObjectPool, SpinLockObjectPool};
use opool::{Pool, PoolAllocator};
use std::hint::black_box;
use std::mem::MaybeUninit;

/// Objects that a pool holds.
const OBJECTS: usize = 64;

type Object = [u64; 32];
const BLANK: Object = [0; 32];

/// All that are no allocator.
const POOLS: &[&str] = &[
    "opool",
    "lockfree-object-pool, linear",
    "lockfree-object-pool, spin lock",
    "object-pool",
    "crossbeam ArrayQueue",
];

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("pool 256 B", "an object taken, its first word written, and given back")
            .column("one", "1 thread", Time)
            .column("two", "2 threads, each", Time)
            .cell("conduit", conduit)
            .cell("opool", opool)
            .cell("lockfree-object-pool, linear", linear)
            .cell("lockfree-object-pool, spin lock", spin_lock)
            .cell("object-pool", object_pool)
            .cell("crossbeam ArrayQueue", array_queue)
            .cell("malloc", malloc)
            .target("conduit", "one", POOLS, AtMost(0.75))
            .target("conduit", "two", &["malloc"], AtMost(1.0)),
    ]
}

/// Writes to an object that the optimizer knows nothing about.
#[inline(always)]
fn touch(object: &mut Object, number: u64) {
    object[0] = number;
    black_box(object);
}

fn measure(context: &Context, take_and_give: impl Fn(u64) + Sync) -> Outcome {
    let one = cost(context, &take_and_give)?[0].1;
    let two = two_threads(context, |_| &take_and_give)?;
    Ok(vec![("one", one), ("two", two)])
}

fn conduit(context: &Context) -> Outcome {
    let pool = leak(conduit::pool::Pool::<[MaybeUninit<u64>; 32], 2, { OBJECTS / 2 }>::new());
    let take_and_give = |_| {
        let mut magazine = pool.magazine();
        move |number| {
            // As uninitialised as what the others give out.
            let mut object = magazine.acquire([const { MaybeUninit::uninit() }; 32]).expect("an object");
            object[0].write(number);
            black_box(&mut *object);
        }
    };
    let one = cost(context, take_and_give(0))?[0].1;
    let two = two_threads(context, take_and_give)?;
    Ok(vec![("one", one), ("two", two)])
}

fn opool(context: &Context) -> Outcome {
    struct Blank;
    impl PoolAllocator<Box<Object>> for Blank {
        fn allocate(&self) -> Box<Object> {
            Box::new(BLANK)
        }
    }
    let pool = Pool::new_prefilled(OBJECTS, Blank);
    measure(context, |number| touch(&mut pool.get(), number))
}

fn linear(context: &Context) -> Outcome {
    let pool = LinearObjectPool::new(|| BLANK, |_| ());
    measure(context, |number| touch(&mut pool.pull(), number))
}

fn spin_lock(context: &Context) -> Outcome {
    let pool = SpinLockObjectPool::new(|| Box::new(BLANK), |_| ());
    measure(context, |number| touch(&mut pool.pull(), number))
}

fn object_pool(context: &Context) -> Outcome {
    let pool = object_pool::Pool::new(OBJECTS, || Box::new(BLANK));
    measure(context, |number| touch(&mut pool.try_pull().expect("an object"), number))
}

fn array_queue(context: &Context) -> Outcome {
    let pool = ArrayQueue::new(OBJECTS);
    (0..OBJECTS).for_each(|_| _ = pool.push(Box::new(BLANK)));
    measure(context, |number| {
        let mut object = pool.pop().expect("an object");
        touch(&mut object, number);
        _ = pool.push(object);
    })
}

/// As uninitialised as what a pool gives out.
fn malloc(context: &Context) -> Outcome {
    measure(context, |number| {
        let mut object = Box::new([const { MaybeUninit::<u64>::uninit() }; 32]);
        object[0].write(number);
        black_box(&mut object);
    })
}
