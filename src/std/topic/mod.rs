//! Topics: named streams of messages in shared memory.
//!
//! A topic is one file under `/dev/shm` with one publisher and up to 64 subscribers, in any number of processes.
//! Messages are written once and read in place. Nothing runs beside the processes that use it, and nothing has to be
//! cleaned up when they die.
//!
//! ```
//! use conduit::msgs::Imu;
//! use conduit::{Publisher, Subscriber};
//!
//! # let domain = format!("doc-{}", std::process::id());
//! let mut publisher = Publisher::<Imu>::options().domain(&domain).open("imu")?;
//! let mut subscriber = Subscriber::<Imu>::options().domain(&domain).open("imu")?;
//!
//! publisher.publish(&Imu { angular_velocity: [0.0, 0.0, 0.1].into(), ..Imu::default() })?;
//! let imu = subscriber.recv()?;
//! assert_eq!(imu.angular_velocity.z, 0.1);
//! assert_eq!((imu.sequence(), imu.lagged()), (0, 0));
//! # publisher.remove()?;
//! # Ok::<(), conduit::Error>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | publish | [`Publisher`]: `publish`, `loan` and `commit`, `publish_batch`, `publish_timeout` |
//! | receive | [`Subscriber`]: `recv`, `try_recv`, `recv_timeout`, iteration, `recv_batch` |
//! | receive from several topics | [`WaitSet`] |
//! | receive in async code, or in an epoll loop | [`AsyncSubscriber`], [`PollSubscriber`] |
//! | look without taking part | [`Observer`], [`list`], [`inspect`] |
//! | read messages by the schema of their topic | [`decode`] |
//! | declare a message type, or use one that comes with the crate | [`message!`](crate::message), [`msgs`](crate::msgs) |

mod clock;
pub mod decode;
mod error;
mod hold;
mod layout;
pub(crate) mod message;
mod multi_wait;
mod name;
mod observer;
mod options;
mod pattern;
mod publisher;
mod readiness;
mod region;
mod registry;
mod sample;
mod schema;
mod subscriber;
mod takeover;
mod wait_set;
pub(crate) mod watch;
mod writing_end;

#[cfg(feature = "tank")]
pub(crate) use self::watch::News;
pub use error::{Error, Result};
pub(crate) use error::{PIN, PRIORITY};
pub use layout::{Geometry, Overflow, SlotKind, Timestamps};
pub use message::{Element, Field, Inline, Message, Payload, Varying, inline_words};
#[doc(hidden)]
pub use message::{is_aligned, is_type_name, zeroed};
pub use name::{MAX_DOMAIN, MAX_TOPIC};
pub(crate) use name::{check_domain, file_name_parts, file_path};
pub use observer::{Observed, Observer};
pub use options::{PublisherOptions, SubscriberOptions};
pub use pattern::Pattern;
pub use publisher::{Loan, Publisher};
pub use readiness::{AsyncSubscriber, PollSubscriber};
pub use registry::{Removed, SubscriberInfo, TopicInfo, WriterState, check_file, clean, clean_some, inspect, list};
pub use sample::{Received, Sample};
pub use schema::{Schema, SchemaBuilder};
pub use subscriber::Subscriber;
pub use wait_set::{Key, WaitSet, Waker};
pub(crate) use {multi_wait::Bell, multi_wait::MultiWait, name::Name, options::default_domain, subscriber::Attachment};

pub use crate::core::ring::{MAX_READERS, Start};
