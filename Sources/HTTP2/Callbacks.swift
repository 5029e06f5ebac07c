import CNGHTTP2
import HTTPCodec

/// The library's way back to a session. Each only finds the session and the stream, and calls a method of it.
struct Callbacks: @unchecked Sendable {
  static let shared = Callbacks()
  /// Never changed after `init`; the library copies what it points to.
  let pointer: OpaquePointer?

  static let failure = NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
  static let streamFailure = NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue

  private init() {
    var new: OpaquePointer?
    nghttp2_session_callbacks_new(&new)
    pointer = new
    nghttp2_session_callbacks_set_on_begin_headers_callback(new) { _, frame, context in
      guard let frame else { return Self.failure }
      return Self.with(context) { $0.sectionBegins(frame) }
    }
    nghttp2_session_callbacks_set_on_header_callback(new) { _, _, name, nameLength, value, valueLength, _, context in
      let nameBytes = UnsafeBufferPointer(start: name, count: nameLength)
      let valueBytes = UnsafeBufferPointer(start: value, count: valueLength)
      return Self.with(context) { $0.fieldArrived(nameBytes, valueBytes) }
    }
    nghttp2_session_callbacks_set_on_invalid_header_callback(new) { _, frame, _, _, _, _, _, context in
      guard let frame else { return Self.failure }
      return Self.with(context) { $0.refuseSection(frame.pointee.hd.stream_id) }
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(new) { _, _, id, data, count, context in
      let data = UnsafeBufferPointer(start: data, count: count)
      return Self.with(context) { $0.dataArrived(data, $0.stream(id)) }
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(new) { _, frame, context in
      guard let frame else { return Self.failure }
      return Self.with(context) { $0.frameArrived(frame) }
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(new) { _, frame, context in
      guard let frame else { return Self.failure }
      return Self.with(context) { $0.frameSent(frame) }
    }
    nghttp2_session_callbacks_set_on_frame_not_send_callback(new) { _, frame, _, context in
      guard let frame else { return Self.failure }
      return Self.with(context) { $0.frameNotSent(frame) }
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(new) { _, id, code, context in
      Self.with(context) { $0.streamClosed(id, HTTP2Code(rawValue: code)) }
    }
    nghttp2_session_callbacks_set_send_data_callback(new) { _, _, head, length, source, context in
      guard let head, let pointer = source?.pointee.ptr else { return Self.failure }
      return Self.with(context) { session in
        Unmanaged<HTTP2Stream>.fromOpaque(pointer)._withUnsafeGuaranteedRef { session.sendData($0, head, length) }
      }
    }
  }

  static let readData: nghttp2_data_source_read_callback = { _, _, _, length, flags, source, context in
    guard let flags, let pointer = source?.pointee.ptr else { return Int(Self.failure) }
    return Int(
      Self.with(context) { session in
        Unmanaged<HTTP2Stream>.fromOpaque(pointer)._withUnsafeGuaranteedRef { session.readData($0, length, flags) }
      })
  }

  /// The session outlives the library's call, so no reference is counted here.
  @inline(__always)
  private static func with(_ context: UnsafeMutableRawPointer?, _ body: (HTTP2Session) -> Int32) -> Int32 {
    guard let context else { return failure }
    return Unmanaged<HTTP2Session>.fromOpaque(context)._withUnsafeGuaranteedRef(body)
  }
}
