//! Bounds of a trace. What exceeds them is refused, whatever its checksums say.

/// Bytes of a header's text.
pub const HEADER_BYTES: usize = 1 << 20;
/// Bytes of a frame's payload before compression. The writer cuts frames far below.
pub const FRAME_BYTES: usize = 64 << 20;
/// Bytes of a frame's payload as stored. zstd adds at most 1/256 to what it cannot compress.
pub const STORED_BYTES: usize = FRAME_BYTES + (FRAME_BYTES >> 7) + 1024;
/// The writer closes a frame when its payload reaches so many bytes.
pub const FRAME_TARGET_BYTES: usize = 256 << 10;
/// Bytes of one text within a frame (an answer, a policy, saved labels).
pub const TEXT_BYTES: usize = 48 << 20;
/// Bytes of the reason why a watch ended.
pub const REASON_BYTES: usize = 256;
/// Tasks whose last state both sides remember. One more, and both forget all.
pub const SLOTS: usize = 1 << 18;
/// Frames that an index may list.
pub const INDEX_FRAMES: usize = 1 << 20;
