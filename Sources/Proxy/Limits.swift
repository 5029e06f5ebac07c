import Primitives
import Telemetry

/// Bounds of the data plane. What a client or an application can make grow is counted here, with its unit and reason.
public enum ProxyLimits {
  /// Bytes of a connection's first read buffer: holds the head and small body of nearly every request.
  static let readBufferBytes = 16 * 1024
  /// Bytes a read buffer may grow to, for long heads; also the step in which bodies are relayed.
  static let readBufferBytesMax = 64 * 1024
  /// Idle read buffers a worker keeps for reuse; 4 MiB.
  static let pooledReadBuffers = 256
  /// Queued bytes towards one peer above which its source is no longer read.
  static let outputHighWater = 64 * 1024
  /// Queued bytes below which the source is read again.
  static let outputLowWater = 16 * 1024
  /// An output buffer that grew beyond this is given back when it is empty.
  static let outputKeptBytes = 32 * 1024
  /// Request body bytes kept for another try; a longer body makes the request unrepeatable (Envoy's per-try default is 1 MiB;
  /// this is per connection and there may be tens of thousands).
  static let retryBodyBytes = 64 * 1024
  /// Bytes of PEM that a gateway tells an application of a client's certificates; escaped they are half as many again, and a
  /// request's head has to stay within what applications read (nginx: 32 KiB in all).
  static let toldCertificatesBytesMax = 16 * 1024
  /// Bytes of the names that nodes tell each other of one head, where the mesh keeps their case: what browsers and applications
  /// send takes some 300, and it has to leave room in a table of 4 KiB (RFC 7541 4.1).
  static let spellingsBytesMax = 2048
  /// Requests served in one turn from one client's pipelined bytes before others get theirs.
  static let requestsPerTurn = 64
  /// Reads of one HTTP/2 connection, and writes of it, in one turn before others get theirs.
  static let readsPerTurn = 16
  static let writesPerTurn = 16
  /// Bytes of frames gathered for one write: fills a socket's buffer, and bounds what a connection holds.
  static let framesPerWrite = 128 * 1024
  /// Requests, with their exchanges, that an HTTP/2 connection keeps for its next streams.
  static let spareStreams = 128
  /// Requests that wait for one HTTP/2 connection to be made; more share another.
  static let waitingStreams = 1024
  /// A connection to another node that was silent for so long is asked for a sign of life with its next request, which has to
  /// come within the time below: a host that is gone without a word must not swallow requests.
  static let silenceBeforePing: Duration = .seconds(10)
  static let pingTime: Duration = .seconds(5)
  /// How long a connection to another node lies idle before it is closed.
  static let meshIdle: Duration = .seconds(3600)
  /// Idle streams are looked for no more often.
  static let idleCheckMin: Duration = .milliseconds(50)
  /// Connections accepted from one listener in one turn.
  static let acceptsPerTurn = 128
  /// Interim (1xx) responses passed on for one request; more is a flood (RFC 9112).
  static let interimResponses = 8
  /// Idle upstream connections a worker keeps for one endpoint and identity: as many as a burst of clients needs at once,
  /// since closing and opening them again costs more than keeping them (an idle one holds no buffer).
  static let idleUpstreamsPerKey = 1024
  /// Idle upstream connections a worker keeps in all.
  static let idleUpstreams = 4096
  /// How long a connection to an application of this node lies idle before it is closed; applications often close theirs
  /// after 60 s, and who closes first cannot lose a request.
  static let applicationIdle: Duration = .seconds(55)
  /// An idle connection older than this is checked for a close before a request is put on it.
  static let idleCheckAfter: Duration = .milliseconds(200)
  /// How long before a peer is expected to close an idle connection no unrepeatable request is put on it.
  static let closeMargin: Duration = .milliseconds(100)
  /// Copies under way on one worker, and bytes of their bodies; more are dropped, so that a slow mirror costs a bounded
  /// amount and nothing to requests.
  static let mirrorsMax = 1024
  static let mirrorBytesMax = 16 << 20
  /// How long a mirrored copy may take.
  static let mirrorTime: Duration = .seconds(15)
  /// How long a connection that is idle when its listener closes may still bring a request: busy clients learn by
  /// `connection: close` in this time that they have to connect elsewhere.
  static let drainIdle: Duration = .seconds(1)
  /// How long connections of a listener that is gone last at most (Istio's `drainDuration`).
  static let drainOfListener: Duration = .seconds(45)
  /// Pause of `accept` when the process is out of descriptors.
  static let acceptPause: Duration = .milliseconds(100)
  /// Unread bytes swallowed after a final answer, so that the client can read it before the connection is reset.
  static let lingerBytes = 256 * 1024
  static let lingerTime: Duration = .seconds(2)
  /// Bytes of access-log lines gathered before they are handed to the sink within a turn.
  static let logBatchBytes = 64 * 1024
  /// Bytes a relay moves before other connections get their turn.
  static let relayBytesPerTurn = 1024 * 1024
  /// Bytes read at once from an opaque connection, and so what a slow receiver can make a worker hold for each direction.
  static let relayReadBytes = 64 * 1024
  /// Full reads in a row after which a transfer between plain sockets stays in the kernel: below, a pipe costs more than it
  /// saves.
  static let fullReadsBeforeSplice = 4
  /// Bytes asked of the kernel for a pipe; what a slow receiver can make it hold. Users may have 64 MiB in all.
  static let splicePipeBytes = 256 * 1024
  /// Pipes a worker keeps for reuse: two descriptors each.
  static let pooledPipes = 16
  /// Endpoints tried for one opaque connection: nothing of it has been sent, so all are safe.
  static let connectAttempts = 3
  /// How long a client that could not be connected has for the first bytes of a request, to which it is answered.
  static let firstBytesAfterFailure: Duration = .seconds(1)
  /// How often the bytes of a long opaque connection are counted (Istio's reporting interval).
  static let tcpReportInterval: Duration = .seconds(5)
  /// Names the resolver remembers; addresses kept of one answer.
  static let resolvedNames = 4096
  static let addressesPerName = 32
  /// Bounds of the life that a name server gives to an answer: shorter ones would be asked for with every request, longer ones
  /// outlive what they name.
  static let resolvedForMin: Duration = .seconds(1)
  static let resolvedForMax: Duration = .seconds(3600)
  /// How long after a failure a name is asked for again.
  static let unresolvedFor: Duration = .seconds(2)
}

/// What the operator may set, and tests shorten.
public struct ProxyOptions: Sendable {
  /// Time from the first byte of a head to its end (slow clients, RFC 9112).
  public var headerTimeout: Duration = .seconds(15)
  /// Time a client connection may stay open between requests.
  public var idleTimeout: Duration = .seconds(3600)
  /// Time without any byte in either direction while a request or response is under way; nil = none, as in Istio's mesh.
  public var streamIdleTimeout: Duration?
  /// Time a client may take nothing of an answer, where `streamIdleTimeout` is not set (Envoy's default for streams).
  public var stalledTimeout: Duration = .seconds(300)
  /// Time for a TLS handshake with a client.
  public var handshakeTimeout: Duration = .seconds(10)
  /// What the node may hold; beyond it clients are turned away.
  public var overload = OverloadLimits.ofThisProcess()
  /// Writes one line a request to the sink when set. Called on worker threads with whole lines; must not block for long.
  public var accessLog: (@Sendable ([UInt8]) -> Void)?
  /// How those lines look.
  public var accessLogFormat = AccessLogFormat.text
  /// Further logs, while `accessLog` is set.
  public var otherAccessLogs: [AccessLogOutput] = []
  /// `address:port,…` of name servers; nil: those of the system's resolver.
  public var nameServers: String?
  /// Whether endpoints that are Unix sockets of this very process are refused: whoever connects there acts as its owner.
  public var refusesOwnSockets = true

  public init() {}

  /// Whether some log asks for what is gone at a request's end unless it is kept.
  var logsAskForPast: Bool { accessLogFormat.asksForPast || otherAccessLogs.contains { $0.format.asksForPast } }
}

/// A log with lines of its own.
public struct AccessLogOutput: Sendable {
  public let format: AccessLogFormat
  /// As `ProxyOptions.accessLog`.
  public let sink: @Sendable ([UInt8]) -> Void

  public init(format: AccessLogFormat, sink: @escaping @Sendable ([UInt8]) -> Void) {
    self.format = format
    self.sink = sink
  }
}
