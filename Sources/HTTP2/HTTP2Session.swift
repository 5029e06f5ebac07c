import CNGHTTP2
import HTTPCodec
import Primitives

/// The protocol state of one HTTP/2 connection (RFC 9113), without input and output: received bytes go in by `receive` and
/// come out as events; what the user asks for comes out as bytes by `send`. Confined to one thread.
///
/// Frames, HPACK and flow control are nghttp2's; what a message may be is `HTTPCodec`'s; limits on top are `HTTP2Limits`.
/// Flow control follows the user: a peer's window opens only as `consumed` is told, and a writer pauses when `write` says
/// so, until `canWrite`.
///
/// A connection's turn is: `receive` what was read; act; `send` once, so that frames of many streams share a write; close
/// the transport when `isFinished`, and then, or whenever the transport is gone, call `connectionLost` once.
///
/// Like a stream's, its state is accessed exclusively by construction, without checks at run time.
public final class HTTP2Session {
  public let role: HTTP2Role
  public let limits: HTTP2Limits
  /// Who is told; has to outlive its use by the session or be set to nil.
  @exclusivity(unchecked) public weak var events: (any HTTP2Events)?
  /// Why the session ended by its own decision or for the peer's errors; nil while it is well.
  @exclusivity(unchecked) public internal(set) var failure: HTTP2Error?
  /// The peer sent GOAWAY, or we did: no new streams.
  @exclusivity(unchecked) public internal(set) var isDraining = false
  /// Body bytes of all streams that wait to be framed.
  @exclusivity(unchecked) public internal(set) var bufferedBytes = 0
  /// Streams the peer reset, and streams we reset because of the peer.
  @exclusivity(unchecked) public internal(set) var resetsReceived = 0
  @exclusivity(unchecked) public internal(set) var resetsProvoked = 0

  let pool: HTTP2MemoryPool
  /// Never nil after `init`; nghttp2's session.
  @exclusivity(unchecked) var session: OpaquePointer?
  @exclusivity(unchecked) var now = Instant.zero
  @exclusivity(unchecked) var live: [HTTP2Stream] = []
  @exclusivity(unchecked) var closed: [HTTP2Stream] = []
  @exclusivity(unchecked) var idle: [HTTP2Stream] = []
  @exclusivity(unchecked) var resumed: [HTTP2Stream] = []
  @exclusivity(unchecked) var fields = FieldVector()

  @exclusivity(unchecked) var requestFields: RequestFields
  @exclusivity(unchecked) var responseFields: ResponseFields
  @exclusivity(unchecked) var trailerFields: TrailerFields
  /// The stream whose header section is being decoded: sections never interleave.
  @exclusivity(unchecked) var section: HTTP2Stream?
  /// Decoded bytes of the section at hand that came after it was refused.
  @exclusivity(unchecked) var surplusBytes = 0

  @exclusivity(unchecked) var resets: TokenBucket
  @exclusivity(unchecked) var controlFrames: TokenBucket
  @exclusivity(unchecked) var continuations = 0
  @exclusivity(unchecked) var walk: FrameWalk
  @exclusivity(unchecked) var peerStreams = PeerStreams()
  /// A header section is open, so that only CONTINUATION may follow.
  @exclusivity(unchecked) var isInSection = false
  /// The peer broke the framing; the library ends the connection.
  @exclusivity(unchecked) var isLeftToLibrary = false

  /// Where `send` collects frames, during that call.
  @exclusivity(unchecked) var output: UnsafeMutablePointer<[UInt8]>?
  @exclusivity(unchecked) var isReceiving = false
  @exclusivity(unchecked) var goAway: (lastStream: Int32, code: HTTP2Code)?
  /// Streams above it were not processed by the peer.
  @exclusivity(unchecked) var peerLastStream = Int32.max
  @exclusivity(unchecked) var shutdown = Shutdown.none
  @exclusivity(unchecked) var lastGoAwayIsWritten = false

  enum Shutdown { case none, announced, final }

  /// Streams kept warm for their next use.
  private static let idleStreams = 128

  /// - Parameters:
  ///   - options: how requests are made canonical (server).
  ///   - pool: shared by the sessions of one thread.
  public init(
    _ role: HTTP2Role, limits: HTTP2Limits = HTTP2Limits(), options: RequestParser.Options = RequestParser.Options(),
    allowsExtendedConnect: Bool = true, pool: HTTP2MemoryPool = HTTP2MemoryPool()
  ) {
    self.role = role
    self.limits = limits
    self.pool = pool
    var requestOptions = options
    requestOptions.limits = limits.message
    requestFields = RequestFields(options: requestOptions)
    responseFields = ResponseFields(limits: limits.message)
    trailerFields = TrailerFields(limits: limits.message)
    resets = TokenBucket(burst: limits.resetBurst, perSecond: limits.resetsPerSecond)
    controlFrames = TokenBucket(burst: limits.controlFrameBurst, perSecond: limits.controlFramesPerSecond)
    walk = FrameWalk(after: role == .server ? NGHTTP2_CLIENT_MAGIC.utf8.count : 0)
    open()
    submitSettings(allowsExtendedConnect: allowsExtendedConnect)
  }

  deinit {
    nghttp2_session_del(session)
    fields.deallocate()
  }

  private func open() {
    var memory = pool.functions
    let option = SessionOptions(limits)
    defer { option.delete() }
    let context = Unmanaged.passUnretained(self).toOpaque()
    let result =
      role == .server
      ? nghttp2_session_server_new3(&session, Callbacks.shared.pointer, context, option.pointer, &memory)
      : nghttp2_session_client_new3(&session, Callbacks.shared.pointer, context, option.pointer, &memory)
    if result != 0 { fail(.codecFailure, .internalError) }
  }

  private func submitSettings(allowsExtendedConnect: Bool) {
    func entry(_ id: nghttp2_settings_id, _ value: UInt32) -> nghttp2_settings_entry {
      nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: value)
    }
    var entries = [
      entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, UInt32(clamping: limits.streamWindow)),
      entry(NGHTTP2_SETTINGS_MAX_FRAME_SIZE, limits.frameBytes),
      entry(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, limits.tableBytes),
      entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, UInt32(clamping: limits.message.headBytes)),
    ]
    if role == .server {
      entries.append(entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrentStreams))
      if allowsExtendedConnect { entries.append(entry(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1)) }
      entries.append(entry(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1))
    } else {
      entries.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
    }
    check(nghttp2_submit_settings(session, Self.noFlags, entries, entries.count))
    check(nghttp2_session_set_local_window_size(session, Self.noFlags, 0, limits.connectionWindow))
  }

  static let noFlags = UInt8(0)

  /// A call that fails only for lack of memory.
  func check(_ result: Int32) {
    if result == NGHTTP2_ERR_NOMEM.rawValue { fail(.codecFailure, .internalError) }
  }

  // MARK: Receiving

  /// Takes what the connection delivered, all of it.
  ///
  /// - Throws: `HTTP2Error` when the connection has to end: `send` then yields the GOAWAY, and `isFinished` is true after
  ///   it. Violations that the library answers by itself end the session the same way, without throwing, at `send`.
  public func receive(_ bytes: UnsafeBufferPointer<UInt8>, now: Instant) throws(HTTP2Error) {
    if let failure { throw failure }
    guard !isReceiving, output == nil, !bytes.isEmpty else { return }
    self.now = now
    isReceiving = true
    let count = inspect(bytes)
    let refused = failure
    failure = nil
    let used = withExtendedLifetime(self) { nghttp2_session_mem_recv(session, bytes.baseAddress, count) }
    isReceiving = false
    failure = refused ?? failure
    if used < 0 { fail(Self.reason(used), Self.code(used)) }
    tellGoAway()
    sweep()
    if let failure { throw failure }
  }

  private static func reason(_ error: Int) -> HTTP2Error.Reason {
    switch Int32(truncatingIfNeeded: error) {
    case NGHTTP2_ERR_FLOODED.rawValue: .tooManyAcknowledgements
    case -905: .tooManyContinuations
    case NGHTTP2_ERR_TOO_MANY_SETTINGS.rawValue: .tooManyControlFrames
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue: .protocolViolation
    default: .codecFailure
    }
  }

  private static func code(_ error: Int) -> HTTP2Code {
    switch reason(error) {
    case .codecFailure: .internalError
    case .protocolViolation: .protocolError
    default: .enhanceYourCalm
    }
  }

  /// Ends the session; the first reason stays.
  func fail(_ reason: HTTP2Error.Reason, _ code: HTTP2Code) {
    if failure == nil { failure = HTTP2Error(reason, code: code) }
  }

  private func tellGoAway() {
    guard let goAway else { return }
    self.goAway = nil
    events?.goAwayReceived(lastStream: goAway.lastStream, code: goAway.code, on: self)
  }

  // MARK: Sending

  /// Something waits to be sent.
  public var wantsWrite: Bool {
    failure == nil ? nghttp2_session_want_write(session) != 0 : !lastGoAwayIsWritten
  }

  /// Nothing more is to be read or written: close the transport.
  public var isFinished: Bool {
    if failure != nil { return lastGoAwayIsWritten }
    return nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
  }

  /// Appends frames to `output` until nothing waits or it holds `limit` bytes or more (at most a frame more).
  ///
  /// - Returns: true when more waits.
  @discardableResult
  public func send(into output: inout [UInt8], upTo limit: Int = 256 * 1024) -> Bool {
    guard !isReceiving, self.output == nil else { return true }
    var wantsMore = true
    while failure == nil, wantsMore, output.count < limit {
      withUnsafeMutablePointer(to: &output) { pointer in
        self.output = pointer
        withExtendedLifetime(self) { collect(limit) }
        self.output = nil
      }
      tellWriters()
      wantsMore = failure == nil && nghttp2_session_want_write(session) != 0 && madeProgress
    }
    if failure != nil, !lastGoAwayIsWritten { writeLastGoAway(&output) }
    sweep()
    return wantsWrite
  }

  private func collect(_ limit: Int) {
    madeProgress = false
    while let output, output.pointee.count < limit {
      var frame: UnsafePointer<UInt8>?
      let before = output.pointee.count
      let count = nghttp2_session_mem_send(session, &frame)
      if count < 0 { return fail(.codecFailure, .internalError) }
      if count > 0 { output.pointee.append(contentsOf: UnsafeBufferPointer(start: frame, count: count)) }
      if failure != nil { return }
      if output.pointee.count == before { return }
      madeProgress = true
    }
  }

  private func tellWriters() {
    while let stream = resumed.popLast() {
      guard stream.isPaused, !stream.isDetached, stream.pending <= limits.streamSendBuffer / 2 else { continue }
      stream.isPaused = false
      events?.canWrite(stream, on: self)
    }
  }

  /// The library has given up, or we have: its own queue is not asked any more.
  private func writeLastGoAway(_ output: inout [UInt8]) {
    lastGoAwayIsWritten = true
    guard let failure, !goAwayWasSent else { return }
    let last = UInt32(bitPattern: max(0, nghttp2_session_get_last_proc_stream_id(session)))
    output.append(contentsOf: [0, 0, 8, UInt8(NGHTTP2_GOAWAY.rawValue), 0, 0, 0, 0, 0])
    for number in [last, failure.code.rawValue] {
      for shift in [24, 16, 8, 0] as [UInt32] { output.append(UInt8(truncatingIfNeeded: number >> shift)) }
    }
  }

  @exclusivity(unchecked) var madeProgress = false
  /// A GOAWAY that names the failure left by the library's own queue.
  @exclusivity(unchecked) var goAwayWasSent = false

  // MARK: The end

  /// The transport is gone: every live stream is told of its end. Streams whose request was never written, or that the
  /// peer said it would not process, are reported so.
  public func connectionLost() {
    guard !isReceiving, output == nil else { return }
    if failure == nil { fail(.codecFailure, .internalError) }
    lastGoAwayIsWritten = true
    while let stream = live.last { close(stream, code: failure?.code ?? .internalError) }
    sweep()
  }

  // MARK: Streams

  /// Streams open at this moment.
  public var openStreams: Int { live.count }

  func open(id: Int32) -> HTTP2Stream {
    let stream = idle.popLast() ?? HTTP2Stream()
    stream.reset(id: id)
    stream.slot = live.count
    live.append(stream)
    return stream
  }

  /// Takes the stream out of the session and tells its user, once.
  func close(_ stream: HTTP2Stream, code: HTTP2Code) {
    guard live.indices.contains(stream.slot), live[stream.slot] === stream else { return }
    let last = live.removeLast()
    if last !== stream {
      last.slot = stream.slot
      live[stream.slot] = last
    }
    if section === stream { section = nil }
    giveBack(stream)
    bufferedBytes -= stream.pending
    closed.append(stream)
    let isTold = stream.isAnnounced && !stream.isDetached
    stream.isDetached = true
    if code == .noError, stream.messageHasEnded { resets.give(1) }
    guard isTold else { return }
    let isNotProcessed = role == .client && (!stream.isSent || code == .refusedStream || stream.id > peerLastStream)
    events?.streamClosed(stream, HTTP2StreamEnd(code: code, isNotProcessed: isNotProcessed), on: self)
  }

  /// Body bytes the user will not consume any more still count against the connection's window.
  func giveBack(_ stream: HTTP2Stream) {
    guard stream.unconsumed > 0 else { return }
    check(nghttp2_session_consume_connection(session, stream.unconsumed))
    stream.unconsumed = 0
  }

  /// Closed streams that nobody else holds are used again.
  private func sweep() {
    while var stream = closed.popLast() {
      stream.owner = nil
      if idle.count < Self.idleStreams, isKnownUniquelyReferenced(&stream) { idle.append(stream) }
    }
  }
}
