/// Bounds of frames, links and calls. Each is refused by name when crossed, never truncated.
public enum LinkLimits {
  /// Bytes of a frame's body on the wire: with its header one frame fills one TLS record (RFC 8446 section 5.1, 2^14), so
  /// an urgent frame waits for at most one record of a bulk transfer.
  public static let fragmentBytesMax = 16_384 - FrameHeader.byteCount
  /// Bytes of one Hello: two certificates of 4 KiB with room for names.
  public static let helloBytesMax = 12_288
  /// Bytes read from a peer before its Hello is accepted: one Hello and its answer.
  public static let handshakeBytesMax = 16_384
  /// Certificate authorities one Hello may offer: the current one and its successor.
  public static let offeredAuthoritiesMax = 2
  /// Bytes of one offered certificate (DER).
  public static let certificateBytesMax = 4_096
  /// Bytes of human text in Reject and Goodbye.
  public static let textBytesMax = 512
  /// Bytes of a cluster name (a DNS label).
  public static let clusterNameBytesMax = 63
  /// Bytes of a join secret at least: below 128 bits a recorded proof could be guessed offline.
  public static let joinSecretBytesMin = 16

  /// Frames (fragments) waiting in one lane of one link.
  public static let laneFramesMax = 4_096
  /// Frames waiting in the calls lane: all the calls that may wait for replies, in the part of it that requests get.
  public static let callsFramesMax = CallLimits.pendingMax / 3 * 4 + 4
  /// Bytes waiting in the urgent lane of one link: some Raft appends and lease renewals.
  public static let urgentBytesMax = 8 << 20
  /// Bytes waiting in the calls lane of one link: 1,000 calls with 10 KB each in the part of it that requests get, twice.
  public static let callsBytesMax = 32 << 20
  /// Bytes waiting in the bulk lane of one link: two snapshots.
  public static let bulkBytesMax = 64 << 20
  /// Bytes handed to TLS before more are taken from the lanes, so a late urgent frame overtakes the rest.
  public static let writeBatchBytes = 16_384
  /// Bytes written to one link before the event loop serves others.
  public static let writeTurnBytes = 262_144
  /// Bytes of bulk on their way that the peer has not read: an urgent frame waits 1.5 ms for them where 700 MB/s are read, and a
  /// transfer over a round trip of 100 ms is as quick as 10 MB/s.
  public static let bulkWindowBytes = 1 << 20
  /// Bytes of bulk after which the peer is asked how far it has read: often enough that the window never closes on a quick peer.
  public static let bulkMarkBytes = 131_072
  /// Bytes read from one link before they are decoded and handed on.
  public static let deliveryBytes = 65_536
  /// Bytes read from one link before the event loop serves others.
  public static let readBatchBytes = 262_144

  /// Connections that have not finished their handshake, all sources together.
  public static let handshakesMax = 256
  /// Unfinished handshakes of one source address.
  public static let handshakesPerSourceMax = 16
  /// Failed proofs a source address may send in `proofWindow` before its connections are closed unread.
  public static let failedProofsMax = 10
  /// The time in which failed proofs are counted.
  public static let proofWindow: Duration = .seconds(60)
  /// Source addresses whose failures are remembered; the oldest is forgotten first.
  public static let failedProofSourcesMax = 1_024
  /// Peers with state (established, dialled or queued for).
  public static let peersMax = 4_096

  /// A TCP connect that has not finished.
  public static let connectTimeout: Duration = .seconds(3)
  /// TLS and Hello together, from accept or connect.
  public static let handshakeTimeout: Duration = .seconds(5)
  /// A started frame that has not arrived whole.
  public static let frameTimeout: Duration = .seconds(10)
  /// Between two looks at all links.
  public static let pulseInterval: Duration = .seconds(1)
  /// Between two pings of a link at rest: membership, not the link, finds out that a node has died.
  public static let restInterval: Duration = .seconds(10)
  /// A peer that may owe an answer for this long is pinged at the next look.
  public static let answerPatience: Duration = .milliseconds(500)
  /// Without any byte from a peer that may owe an answer, a ping's at least: it is dead.
  public static let silenceTimeout: Duration = .seconds(3)
  /// Seconds by which two wall clocks may differ before it is said: certificates are valid from some seconds before their issue.
  public static let clockToleranceSeconds: Int64 = 5
  /// A peer that has owed no answer for this long is alive: nobody else gets its name.
  public static let aliveWindow: Duration = .milliseconds(1_500)
  /// A retired link that still owes replies.
  public static let retirementTimeout: Duration = .seconds(300)
  /// The first wait before dialling again; doubles with each failure, with jitter of a half.
  public static let redialMin: Duration = .milliseconds(50)
  /// The longest wait before dialling again after connect errors.
  public static let redialMax: Duration = .seconds(2)
  /// The wait after the peer refused us: only a person or a new certificate changes that.
  public static let redialRefused: Duration = .seconds(10)
  /// A goodbye that the peer has not read.
  public static let goodbyeTimeout: Duration = .seconds(1)
}
