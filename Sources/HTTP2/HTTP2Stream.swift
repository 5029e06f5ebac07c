import HTTPCodec

/// One stream of a session: the heads that arrived on it, what waits to be sent on it, and its user's own object.
///
/// Streams are used again for later requests of the connection, so that their storage stays warm. Take a head by `swap`;
/// the storage left in its place is used for the next one.
///
/// Accesses are exclusive by construction, one thread and no overlapping `inout`, so they are not checked at run time: the
/// checks took a seventh of the instructions of a request.
public final class HTTP2Stream {
  @exclusivity(unchecked) public internal(set) var id: Int32 = 0
  /// What the user of the session keeps with the stream; released when the stream closes.
  @exclusivity(unchecked) public var owner: AnyObject?
  /// The request that arrived (server).
  @exclusivity(unchecked) public var request = RequestHead()
  /// The response that arrived (client): interim, then final.
  @exclusivity(unchecked) public var response = ResponseHead()
  /// The trailers that arrived; valid in `messageEnded`.
  @exclusivity(unchecked) public var trailers = HeaderBlock()

  /// Place in the session's list of live streams.
  @exclusivity(unchecked) var slot = 0
  /// The user was told of the stream and has to be told of its end.
  @exclusivity(unchecked) var isAnnounced = false
  /// The user reset the stream, or it closed: no more events.
  @exclusivity(unchecked) var isDetached = false
  /// The head that starts a message was complete.
  @exclusivity(unchecked) var hasFinalHead = false
  @exclusivity(unchecked) var refusal: MessageError?
  /// Client: the HEADERS frame of the request was written.
  @exclusivity(unchecked) var isSent = false
  /// Client: what the request asked, to read the response's framing by.
  @exclusivity(unchecked) var method = HTTPMethod.get
  @exclusivity(unchecked) var upgrade: [UInt8]?
  /// Server: an extended CONNECT, to be answered 200 where HTTP/1 says 101.
  @exclusivity(unchecked) var isExtendedConnect = false
  @exclusivity(unchecked) var messageHasEnded = false

  /// Body bytes delivered and not yet given back.
  @exclusivity(unchecked) var unconsumed = 0

  // What waits to be sent: the bytes from `sendStart`.
  @exclusivity(unchecked) var sendBuffer: [UInt8] = []
  @exclusivity(unchecked) var sendStart = 0
  @exclusivity(unchecked) var sendEnds = false
  @exclusivity(unchecked) var sendTrailers: HeaderBlock?
  /// The library asked for data when there was none and has to be told of more.
  @exclusivity(unchecked) var isDeferred = false
  /// The writer was told to pause and waits for `canWrite`.
  @exclusivity(unchecked) var isPaused = false

  public init() {}

  /// Bytes written to the stream and not yet framed: the peer's window, or the connection, does not take them.
  public var pending: Int { sendBuffer.count - sendStart }

  func reset(id: Int32) {
    self.id = id
    owner = nil
    isAnnounced = false
    isDetached = false
    hasFinalHead = false
    refusal = nil
    isSent = false
    method = .get
    upgrade = nil
    isExtendedConnect = false
    messageHasEnded = false
    unconsumed = 0
    sendBuffer.removeAll(keepingCapacity: sendBuffer.capacity <= Self.warmBytes)
    sendStart = 0
    sendEnds = false
    sendTrailers = nil
    isDeferred = false
    isPaused = false
  }

  /// Bytes of buffer a stream keeps for its next use.
  private static let warmBytes = 16 * 1024
}
