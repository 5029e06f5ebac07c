import CNGHTTP2
import HTTPCodec

extension HTTP2Session {
  // MARK: Server

  /// Answers a request with its final head. With `ends`, there is no body and no trailers; otherwise `write` and `end`.
  ///
  /// The 101 that ends an upgrade is sent as the 200 of an extended CONNECT.
  public func respond(_ stream: HTTP2Stream, _ head: borrowing ResponseHead, ends: Bool) {
    guard canAct(stream), role == .server else { return }
    var status = head.status
    if status == 101 {
      guard stream.isExtendedConnect else { return reset(stream, .internalError) }
      status = 200
    }
    if ends { stream.sendEnds = true }
    submit(status, head.headers) { session, fields in
      withUnsafePointer(to: Self.dataSource(stream)) { source in
        nghttp2_submit_response(session, stream.id, fields.pointer, fields.count, ends ? nil : source)
      }
    }
  }

  /// Sends an interim response (RFC 9110 15.2) before the final one.
  public func interim(_ stream: HTTP2Stream, _ head: borrowing ResponseHead) {
    guard canAct(stream), role == .server, head.isInterim else { return }
    submit(head.status, head.headers) { session, fields in
      nghttp2_submit_headers(session, Self.noFlags, stream.id, nil, fields.pointer, fields.count, nil)
    }
  }

  private func submit(
    _ status: Int, _ headers: borrowing HeaderBlock, _ call: (OpaquePointer?, FieldVector) -> Int32
  ) {
    Self.statusDigits.withUnsafeBufferPointer { digits in
      headers.bytes.withUnsafeBufferPointer { bytes in
        let at = min(max(status, 100), 999) * 3
        fields.removeAll()
        fields.add(":status", UnsafeBufferPointer(rebasing: digits[at..<(at + 3)]))
        fields.add(headers, bytes)
        check(call(session, fields))
      }
    }
  }

  /// The digits of every status, so that none has to be written out.
  private static let statusDigits: [UInt8] = (0..<1000).flatMap { status in
    [100, 10, 1].map { UInt8(truncatingIfNeeded: 0x30 + status / $0 % 10) }
  }

  // MARK: Client

  /// Streams that can be opened now, by the peer's limit.
  public var availableStreams: Int {
    guard failure == nil, !isDraining, nghttp2_session_check_request_allowed(session) != 0 else { return 0 }
    let allowed = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
    return max(0, Int(min(allowed, Self.streamsBeforeSettings)) - live.count)
  }

  /// What a client takes for the peer's limit when it names none: more would not be answered sooner.
  private static let streamsBeforeSettings: UInt32 = 1024

  /// The peer takes extended CONNECT (RFC 8441), so requests with `wantsUpgrade` can be sent.
  public var peerAllowsExtendedConnect: Bool {
    nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1
  }

  /// Opens a stream with a request. With `ends`, it has no body; otherwise `write` and `end`.
  ///
  /// CONNECT in authority-form is a plain CONNECT (RFC 9113 8.5). A request with `wantsUpgrade` becomes an extended CONNECT.
  /// - Returns: nil when no stream can be opened now: see `availableStreams` and `peerAllowsExtendedConnect`.
  public func request(_ head: borrowing RequestHead, ends: Bool, owner: AnyObject? = nil) -> HTTP2Stream? {
    guard role == .client, availableStreams > 0, !head.wantsUpgrade || peerAllowsExtendedConnect else { return nil }
    let stream = open(id: 0)
    stream.owner = owner
    stream.method = head.method
    stream.isAnnounced = true
    stream.sendEnds = ends
    if head.wantsUpgrade, let name = head.headers.value(.upgrade) { stream.upgrade = head.headers.copy(name) }
    let id = head.headers.bytes.withUnsafeBufferPointer { bytes in
      setRequestFields(head, bytes)
      let context = Unmanaged.passUnretained(stream).toOpaque()
      return withUnsafePointer(to: Self.dataSource(stream)) { source in
        nghttp2_submit_request(session, nil, fields.pointer, fields.count, ends ? nil : source, context)
      }
    }
    guard id > 0 else {
      check(id)
      stream.isAnnounced = false
      close(stream, code: .internalError)
      return nil
    }
    stream.id = id
    controlFrames.give(Self.controlFramesPerWork)
    return stream
  }

  private func setRequestFields(_ head: borrowing RequestHead, _ bytes: UnsafeBufferPointer<UInt8>) {
    func value(_ range: Range<Int>) -> UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(rebasing: bytes[range]) }
    fields.removeAll()
    if head.wantsUpgrade {
      fields.add(":method", Self.bytes("CONNECT"))
      if let name = head.headers.value(.upgrade) { fields.add(":protocol", value(name)) }
    } else {
      fields.add(":method", value(head.methodName))
    }
    if head.form != .authority {
      fields.add(":scheme", value(head.scheme))
      fields.add(":path", value(head.target))
    }
    fields.add(":authority", value(head.authority))
    fields.add(head.headers, bytes)
  }

  private static func bytes(_ text: StaticString) -> UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  // MARK: Both

  /// Queues body bytes. All of them are taken.
  ///
  /// - Returns: false when the writer should pause until `canWrite`.
  @discardableResult
  public func write(_ stream: HTTP2Stream, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    guard canAct(stream), !stream.sendEnds else { return true }
    if !bytes.isEmpty {
      stream.sendBuffer.append(contentsOf: bytes)
      bufferedBytes += bytes.count
      resume(stream)
    }
    let mayGoOn = stream.pending < limits.streamSendBuffer && bufferedBytes < limits.connectionSendBuffer
    if !mayGoOn { stream.isPaused = true }
    return mayGoOn
  }

  /// Ends our side of the stream, after what was written.
  public func end(_ stream: HTTP2Stream, trailers: HeaderBlock? = nil) {
    guard canAct(stream), !stream.sendEnds else { return }
    stream.sendEnds = true
    stream.sendTrailers = trailers
    resume(stream)
  }

  private func resume(_ stream: HTTP2Stream) {
    guard stream.isDeferred else { return }
    stream.isDeferred = false
    check(nghttp2_session_resume_data(session, stream.id))
  }

  /// Breaks the stream off. No event comes for it any more, and it must not be used again.
  public func reset(_ stream: HTTP2Stream, _ code: HTTP2Code) {
    guard canAct(stream) else { return }
    stream.isDetached = true
    stream.owner = nil
    giveBack(stream)
    check(nghttp2_submit_rst_stream(session, Self.noFlags, stream.id, code.rawValue))
  }

  /// Gives `count` delivered body bytes back: the peer may send as many more.
  public func consumed(_ stream: HTTP2Stream, _ count: Int) {
    guard canAct(stream), count > 0 else { return }
    let given = min(count, stream.unconsumed)
    stream.unconsumed -= given
    check(nghttp2_session_consume(session, stream.id, given))
  }

  /// Asks for a sign of life; `pongReceived` brings the payload back.
  public func ping(_ payload: UInt64) {
    guard failure == nil, payload != Self.shutdownPing else { return }
    submitPing(payload)
  }

  private func submitPing(_ payload: UInt64) {
    withUnsafeBytes(of: payload.bigEndian) { bytes in
      check(nghttp2_submit_ping(session, Self.noFlags, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)))
    }
  }

  /// Ends the connection without losing a request (RFC 9113 6.8). A server first announces it, and names the last stream it
  /// serves one round trip later, so that requests on the way still arrive; a client just opens no more streams.
  /// `isFinished` becomes true when the last stream has ended.
  public func shutDown() {
    guard failure == nil, shutdown == .none else { return }
    isDraining = true
    if role == .client { return finishShutdown() }
    shutdown = .announced
    check(nghttp2_submit_shutdown_notice(session))
    submitPing(Self.shutdownPing)
  }

  /// The second step of `shutDown`, for a caller that does not want to wait for the peer.
  public func finishShutdown() {
    guard failure == nil, shutdown != .final else { return }
    isDraining = true
    shutdown = .final
    let last = nghttp2_session_get_last_proc_stream_id(session)
    check(nghttp2_submit_goaway(session, Self.noFlags, last, HTTP2Code.noError.rawValue, nil, 0))
  }

  /// Ends the connection at once with `code`.
  public func abort(_ code: HTTP2Code) {
    guard failure == nil else { return }
    fail(.protocolViolation, code)
  }

  static let shutdownPing: UInt64 = 0x6D65_7368_2D67_6F21
  static let controlFramesPerWork = 10.0

  private func canAct(_ stream: HTTP2Stream) -> Bool { failure == nil && !stream.isDetached }

  private static func dataSource(_ stream: HTTP2Stream) -> nghttp2_data_provider {
    var provider = nghttp2_data_provider()
    provider.source.ptr = Unmanaged.passUnretained(stream).toOpaque()
    provider.read_callback = Callbacks.readData
    return provider
  }
}
