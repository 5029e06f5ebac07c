import HTTPCodec

/// What one HTTP/2 connection may take of us. Every field has its unit and its reason; most become SETTINGS.
public struct HTTP2Limits: Hashable, Sendable {
  /// Streams the peer may have open at once (SETTINGS_MAX_CONCURRENT_STREAMS). RFC 9113 recommends at least 100.
  public var concurrentStreams: UInt32 = 100
  /// Bytes of body a peer may send on a stream before we took any of them. Bounds memory per stream.
  public var streamWindow: Int32 = 256 * 1024
  /// Bytes of body a peer may send on all streams together. Bounds memory per connection.
  public var connectionWindow: Int32 = 1024 * 1024
  /// Largest frame payload we accept, bytes: the minimum of RFC 9113, so that no frame holds others up for long.
  public var frameBytes: UInt32 = 16 * 1024
  /// Bytes of the HPACK table in each direction: the default of RFC 9113; more would pay off for few peers only.
  public var tableBytes: UInt32 = 4096
  /// Decoded header section: bytes (name + value + 32 each, RFC 9113 6.5.2), fields, trailer bytes. Over it 431.
  public var message = MessageLimits()
  /// CONTINUATION frames of one header section. 60 KiB fit into four frames; more are an attack (CVE-2024-28182).
  public var continuations = 8
  /// Streams that may be reset, by the peer or by its fault, in a burst; and per second after that. A stream that ends
  /// properly gives one back, so a peer that resets less than half of its streams never meets this limit.
  public var resetBurst = 200
  public var resetsPerSecond = 33
  /// Frames without work (see `tooManyControlFrames`) in a burst, and per second after that. Each request and each DATA
  /// frame we send gives ten back, as they justify WINDOW_UPDATE and PRIORITY frames.
  public var controlFrameBurst = 1000
  public var controlFramesPerSecond = 100
  /// PING and SETTINGS acknowledgements waiting to be written: more only wait when the peer does not read.
  public var acknowledgements = 256
  /// SETTINGS entries in one frame: RFC 9113 knows seven.
  public var settings = 32
  /// Bytes of body a stream buffers for a peer that does not read; the writer pauses above it.
  public var streamSendBuffer = 64 * 1024
  /// The same for all streams of a connection together.
  public var connectionSendBuffer = 1024 * 1024

  public init() {}

  /// Between nodes: few connections with many streams, and a peer that proved who it is.
  public static let mesh: HTTP2Limits = {
    var limits = HTTP2Limits()
    limits.concurrentStreams = 1024
    limits.connectionWindow = 16 * 1024 * 1024
    limits.resetBurst = 2000
    limits.resetsPerSecond = 1000
    limits.controlFrameBurst = 10_000
    limits.controlFramesPerSecond = 1000
    limits.connectionSendBuffer = 8 * 1024 * 1024
    // What a node took from its client, and what it added to it, has to fit: a head of HTTP/1 counts 32 bytes more for each
    // field here.
    limits.message.fields += 28
    limits.message.headBytes += 128 * 32 + 12 * 1024
    limits.message.trailerBytes += 128 * 32
    limits.continuations += 1
    return limits
  }()
}
