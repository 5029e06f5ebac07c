import CNGHTTP2
import HTTPCodec

// What the library reports about frames, turned into events and budgets.
extension HTTP2Session {
  // MARK: Every frame, before the library sees it

  /// Looks at the heads of the frames in `bytes`.
  ///
  /// - Returns: how many bytes the library may have: all of them, or those before a frame that ends the connection.
  func inspect(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    var position = 0
    while !isLeftToLibrary, let head = walk.next(bytes, &position) {
      if !admit(head) { return max(0, position - 9) }
    }
    return bytes.count
  }

  /// Counts the frame against its budget; false when the session has failed by it.
  private func admit(_ head: FrameHead) -> Bool {
    let type = UInt32(head.type)
    // Frames that are too long, or that come inside a header section, are the library's to answer.
    if head.length > Int(limits.frameBytes) || isInSection != (type == NGHTTP2_CONTINUATION.rawValue) {
      isLeftToLibrary = true
      return true
    }
    switch type {
    case NGHTTP2_HEADERS.rawValue:
      continuations = 0
      isInSection = !head.has(FrameHead.endHeaders)
      return admitStream(head, isHeaders: true)
    case NGHTTP2_CONTINUATION.rawValue:
      isInSection = !head.has(FrameHead.endHeaders)
      continuations += 1
      return continuations <= limits.continuations || refuse(.tooManyContinuations)
    case NGHTTP2_DATA.rawValue:
      let isIdle = head.length == 0 && !head.has(FrameHead.endStream)
      return admitStream(head) && (!isIdle || chargeControlFrame())
    case NGHTTP2_RST_STREAM.rawValue:
      resetsReceived += 1
      return admitStream(head, isReset: true) && (resets.take(at: now) || refuse(.tooManyResets))
    case NGHTTP2_GOAWAY.rawValue: return true
    case NGHTTP2_PRIORITY.rawValue where head.stream == 0: return refuse(.protocolViolation, .protocolError)
    default: return chargeControlFrame()
    }
  }

  private func admitStream(_ head: FrameHead, isHeaders: Bool = false, isReset: Bool = false) -> Bool {
    guard role == .server, let code = peerStreams.take(head, isHeaders: isHeaders, isReset: isReset) else { return true }
    return refuse(.protocolViolation, code)
  }

  static let endStream = UInt8(NGHTTP2_FLAG_END_STREAM.rawValue)
  private static let acknowledged = UInt8(NGHTTP2_FLAG_ACK.rawValue)

  private func chargeControlFrame() -> Bool { controlFrames.take(at: now) || refuse(.tooManyControlFrames) }

  /// Ends the session; false, to be passed on.
  private func refuse(_ reason: HTTP2Error.Reason, _ code: HTTP2Code = .enhanceYourCalm) -> Bool {
    fail(reason, code)
    return false
  }

  // MARK: Header sections

  func sectionBegins(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    let id = frame.pointee.hd.stream_id
    surplusBytes = 0
    if role == .server, frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
      let stream = open(id: id)
      nghttp2_session_set_stream_user_data(session, id, Unmanaged.passUnretained(stream).toOpaque())
      // Streams take turns, frame by frame: a large response does not hold up the others, whatever its client asks for.
      var turns = nghttp2_extpri(urgency: UInt32(NGHTTP2_EXTPRI_DEFAULT_URGENCY), inc: 1)
      check(nghttp2_session_change_extpri_stream_priority(session, id, &turns, 1))
      requestFields.begin(&stream.request)
      section = stream
      return 0
    }
    section = stream(id)
    guard let stream = section else { return 0 }
    if stream.hasFinalHead { trailerFields.begin(&stream.trailers) } else { responseFields.begin(&stream.response) }
    return 0
  }

  func stream(_ id: Int32) -> HTTP2Stream? {
    if id == 0 { return nil }
    return nghttp2_session_get_stream_user_data(session, id).map {
      Unmanaged<HTTP2Stream>.fromOpaque($0).takeUnretainedValue()
    }
  }

  func fieldArrived(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Int32 {
    guard let stream = section, !stream.isDetached else { return 0 }
    if stream.refusal != nil { return countSurplus(stream, name.count + value.count + 32) }
    let name = Span(_unsafeElements: name)
    let value = Span(_unsafeElements: value)
    do throws(MessageError) {
      if stream.hasFinalHead {
        try trailerFields.add(name: name, value: value, to: &stream.trailers)
      } else if role == .server {
        try requestFields.add(name: name, value: value, to: &stream.request)
      } else {
        try responseFields.add(name: name, value: value, to: &stream.response)
      }
      return 0
    } catch {
      stream.refusal = error
      return isAnswerable(error, stream) ? 0 : refuseSection(stream.id)
    }
  }

  /// A request that is wrong as HTTP, and not as HTTP/2, gets an answer.
  private func isAnswerable(_ error: MessageError, _ stream: HTTP2Stream) -> Bool {
    role == .server && !stream.hasFinalHead && !error.isMalformedHTTP2
  }

  /// The rest of a refused section is decoded, as HPACK demands, but only so much of it is looked at.
  private func countSurplus(_ stream: HTTP2Stream, _ count: Int) -> Int32 {
    surplusBytes += count
    return surplusBytes <= limits.message.headBytes ? 0 : refuseSection(stream.id, .enhanceYourCalm)
  }

  func refuseSection(_ id: Int32, _ code: HTTP2Code = .protocolError) -> Int32 {
    check(nghttp2_submit_rst_stream(session, Self.noFlags, id, code.rawValue))
    return Callbacks.streamFailure
  }

  private func sectionEnds(_ stream: HTTP2Stream, ends: Bool) -> Int32 {
    do throws(MessageError) {
      if let refusal = stream.refusal { throw refusal }
      if stream.hasFinalHead { return trailersEnd(stream, ends: ends) }
      if role == .server {
        try requestFields.finish(&stream.request, ends: ends)
        requestEnds(stream, ends: ends)
      } else {
        try responseEnds(stream, ends: ends)
      }
    } catch {
      guard isAnswerable(error, stream) else {
        check(nghttp2_submit_rst_stream(session, Self.noFlags, stream.id, HTTP2Code.protocolError.rawValue))
        return 0
      }
      stream.refusal = error
      stream.hasFinalHead = true
      stream.isAnnounced = true
      stream.messageHasEnded = ends
      events?.requestRefused(stream, error: error, on: self)
    }
    return 0
  }

  private func requestEnds(_ stream: HTTP2Stream, ends: Bool) {
    stream.hasFinalHead = true
    stream.isAnnounced = true
    stream.isExtendedConnect = stream.request.wantsUpgrade
    stream.method = stream.request.method
    stream.messageHasEnded = ends
    controlFrames.give(Self.controlFramesPerWork)
    events?.requestArrived(stream, ends: ends, on: self)
  }

  private func responseEnds(_ stream: HTTP2Stream, ends: Bool) throws(MessageError) {
    try responseFields.finish(&stream.response, answering: stream.method, upgrade: stream.upgrade, ends: ends)
    stream.hasFinalHead = !stream.response.isInterim
    stream.messageHasEnded = ends
    if stream.response.isInterim, !chargeControlFrame() { return }
    guard !stream.isDetached else { return }
    events?.responseArrived(stream, ends: ends, on: self)
  }

  private func trailersEnd(_ stream: HTTP2Stream, ends: Bool) -> Int32 {
    guard ends, !stream.isDetached else { return 0 }
    trailerFields.finish(&stream.trailers)
    stream.messageHasEnded = true
    events?.messageEnded(stream, hasTrailers: true, on: self)
    return 0
  }

  // MARK: Other frames

  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream?) -> Int32 {
    guard let stream, !stream.isDetached, stream.isAnnounced, stream.refusal == nil, isInsideWindow(stream, bytes.count),
      let events
    else {
      check(nghttp2_session_consume_connection(session, bytes.count))
      return 0
    }
    stream.unconsumed += bytes.count
    events.dataArrived(bytes, stream, on: self)
    return 0
  }

  /// The library answers a stream that sends too much by FLOW_CONTROL_ERROR, but still delivers what came.
  private func isInsideWindow(_ stream: HTTP2Stream, _ count: Int) -> Bool {
    if stream.unconsumed + count <= Int(limits.streamWindow) { return true }
    let window = nghttp2_session_get_stream_effective_local_window_size(session, stream.id)
    if stream.unconsumed + count <= Int(window) { return true }
    stream.refusal = MessageError(.extraBytes)
    return false
  }

  func frameArrived(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    let head = frame.pointee.hd
    let ends = head.flags & Self.endStream != 0
    switch UInt32(head.type) {
    case NGHTTP2_HEADERS.rawValue:
      let stream = section
      section = nil
      guard let stream, !stream.isDetached else { return 0 }
      _ = sectionEnds(stream, ends: ends)
    case NGHTTP2_DATA.rawValue: dataEnds(frame, ends: ends)
    case NGHTTP2_SETTINGS.rawValue:
      if head.flags & Self.acknowledged == 0 { events?.settingsReceived(on: self) }
    case NGHTTP2_PING.rawValue:
      if head.flags & Self.acknowledged != 0 { pong(frame.pointee.ping.opaque_data) }
    case NGHTTP2_GOAWAY.rawValue:
      isDraining = true
      peerLastStream = frame.pointee.goaway.last_stream_id
      goAway = (peerLastStream, HTTP2Code(rawValue: frame.pointee.goaway.error_code))
    default: break
    }
    return failure == nil ? 0 : Callbacks.failure
  }

  private func dataEnds(_ frame: UnsafePointer<nghttp2_frame>, ends: Bool) {
    let isIdle = frame.pointee.hd.length > 0 && frame.pointee.hd.length <= frame.pointee.data.padlen
    if isIdle { _ = chargeControlFrame() }
    guard ends, let stream = stream(frame.pointee.hd.stream_id), !stream.isDetached, stream.isAnnounced,
      !stream.messageHasEnded
    else { return }
    stream.messageHasEnded = true
    if stream.refusal == nil { events?.messageEnded(stream, hasTrailers: false, on: self) }
  }

  private func pong(_ payload: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)) {
    let number = withUnsafeBytes(of: payload) { UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)) }
    if number == Self.shutdownPing {
      if shutdown == .announced { finishShutdown() }
    } else {
      events?.pongReceived(number, on: self)
    }
  }

  // MARK: Sending

  /// How much of the stream's buffer goes into the next DATA frame.
  func readData(_ stream: HTTP2Stream, _ length: Int, _ flags: UnsafeMutablePointer<UInt32>) -> Int32 {
    let pending = stream.isDetached ? 0 : stream.pending
    if pending == 0, !stream.sendEnds {
      stream.isDeferred = true
      return NGHTTP2_ERR_DEFERRED.rawValue
    }
    flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
    if pending <= length, stream.sendEnds {
      flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
      if let trailers = stream.sendTrailers, submit(trailers, stream) {
        flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
      }
    }
    return Int32(truncatingIfNeeded: min(pending, length))
  }

  /// False when no trailer is left to send.
  private func submit(_ trailers: HeaderBlock, _ stream: HTTP2Stream) -> Bool {
    trailers.bytes.withUnsafeBufferPointer { bytes in
      fields.removeAll()
      fields.add(trailers, bytes)
      guard fields.count > 0 else { return false }
      check(nghttp2_submit_trailer(session, stream.id, fields.pointer, fields.count))
      return true
    }
  }

  /// Writes a DATA frame from the stream's buffer, without a copy in between.
  func sendData(_ stream: HTTP2Stream, _ head: UnsafePointer<UInt8>, _ length: Int) -> Int32 {
    guard let output, length <= stream.pending else { return Callbacks.failure }
    output.pointee.append(contentsOf: UnsafeBufferPointer(start: head, count: 9))
    stream.sendBuffer.withUnsafeBufferPointer { buffer in
      output.pointee.append(
        contentsOf: UnsafeBufferPointer(rebasing: buffer[stream.sendStart..<(stream.sendStart + length)]))
    }
    stream.sendStart += length
    bufferedBytes -= length
    controlFrames.give(Self.controlFramesPerWork)
    compact(stream)
    if stream.isPaused, stream.pending <= limits.streamSendBuffer / 2 { resumed.append(stream) }
    return 0
  }

  private func compact(_ stream: HTTP2Stream) {
    if stream.pending == 0 {
      stream.sendBuffer.removeAll(keepingCapacity: true)
      stream.sendStart = 0
    } else if stream.sendStart >= limits.streamSendBuffer {
      stream.sendBuffer.removeSubrange(0..<stream.sendStart)
      stream.sendStart = 0
    }
  }

  func frameSent(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    let head = frame.pointee.hd
    switch UInt32(head.type) {
    case NGHTTP2_HEADERS.rawValue:
      if role == .client { stream(head.stream_id)?.isSent = true }
      if head.flags & Self.endStream != 0 { messageSent(head.stream_id) }
    case NGHTTP2_DATA.rawValue:
      if head.flags & Self.endStream != 0 { messageSent(head.stream_id) }
    case NGHTTP2_RST_STREAM.rawValue:
      return resetSent(stream(head.stream_id), HTTP2Code(rawValue: frame.pointee.rst_stream.error_code))
    case NGHTTP2_GOAWAY.rawValue: goAwaySent(HTTP2Code(rawValue: frame.pointee.goaway.error_code))
    default: break
    }
    return 0
  }

  /// A response that is complete before its request: the rest of the request is not wanted (RFC 9113 8.1). Tunnels go on.
  private func messageSent(_ id: Int32) {
    guard role == .server, let stream = stream(id), !stream.messageHasEnded, !stream.isExtendedConnect,
      stream.method != .connect
    else {
      return
    }
    check(nghttp2_submit_rst_stream(session, Self.noFlags, stream.id, HTTP2Code.noError.rawValue))
  }

  /// Resets that the peer provoked count like its own (CVE-2025-8671).
  private func resetSent(_ stream: HTTP2Stream?, _ code: HTTP2Code) -> Int32 {
    if code == .noError || stream?.isDetached == true { return 0 }
    resetsProvoked += 1
    if !resets.take(at: now) { fail(.tooManyResets, .enhanceYourCalm) }
    return 0
  }

  private func goAwaySent(_ code: HTTP2Code) {
    guard code != .noError else { return }
    isDraining = true
    goAwayWasSent = true
    fail(.protocolViolation, code)
  }

  /// The library could not send a request's head: its stream never existed for the peer.
  func frameNotSent(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    guard UInt32(frame.pointee.hd.type) == NGHTTP2_HEADERS.rawValue, role == .client else { return 0 }
    let id = frame.pointee.hd.stream_id
    if let stream = live.first(where: { $0.id == id }), !stream.isSent { close(stream, code: .refusedStream) }
    return 0
  }

  func streamClosed(_ id: Int32, _ code: HTTP2Code) -> Int32 {
    if let stream = stream(id) { close(stream, code: code) }
    return 0
  }
}
