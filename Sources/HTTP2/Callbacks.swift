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
    nghttp2_session_callbacks_set_on_begin_frame_callback(new) { _, head, context in
      guard let head, let session = Self.session(context) else { return Self.failure }
      return session.frameBegins(head.pointee)
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(new) { _, frame, context in
      guard let frame, let session = Self.session(context) else { return Self.failure }
      return session.sectionBegins(frame)
    }
    nghttp2_session_callbacks_set_on_header_callback(new) { library, frame, name, nameLength, value, valueLength, _, context in
      guard let frame, let name, let session = Self.session(context) else { return Self.failure }
      guard let stream = Self.stream(library, frame.pointee.hd.stream_id) else { return 0 }
      return session.fieldArrived(
        stream, UnsafeBufferPointer(start: name, count: nameLength), UnsafeBufferPointer(start: value, count: valueLength))
    }
    nghttp2_session_callbacks_set_on_invalid_header_callback(new) { library, frame, _, _, _, _, _, context in
      guard let frame, let session = Self.session(context) else { return Self.failure }
      return session.refuseSection(frame.pointee.hd.stream_id)
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(new) { library, _, id, data, count, context in
      guard let session = Self.session(context) else { return Self.failure }
      return session.dataArrived(UnsafeBufferPointer(start: data, count: count), Self.stream(library, id))
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(new) { library, frame, context in
      guard let frame, let session = Self.session(context) else { return Self.failure }
      return session.frameArrived(frame, Self.stream(library, frame.pointee.hd.stream_id))
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(new) { library, frame, context in
      guard let frame, let session = Self.session(context) else { return Self.failure }
      return session.frameSent(frame, Self.stream(library, frame.pointee.hd.stream_id))
    }
    nghttp2_session_callbacks_set_on_frame_not_send_callback(new) { _, frame, _, context in
      guard let frame, let session = Self.session(context) else { return Self.failure }
      session.frameNotSent(frame)
      return 0
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(new) { library, id, code, context in
      guard let session = Self.session(context) else { return Self.failure }
      if let stream = Self.stream(library, id) { session.close(stream, code: HTTP2Code(rawValue: code)) }
      return 0
    }
    nghttp2_session_callbacks_set_send_data_callback(new) { _, _, head, length, source, context in
      guard let head, let pointer = source?.pointee.ptr, let session = Self.session(context) else {
        return Self.failure
      }
      let stream = Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
      return session.sendData(stream, head, length)
    }
  }

  static let readData: nghttp2_data_source_read_callback = { _, _, _, length, flags, source, context in
    guard let flags, let pointer = source?.pointee.ptr, let session = Self.session(context) else { return Int(Self.failure) }
    return session.readData(Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue(), length, flags)
  }

  private static func session(_ context: UnsafeMutableRawPointer?) -> HTTP2Session? {
    context.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
  }

  private static func stream(_ library: OpaquePointer?, _ id: Int32) -> HTTP2Stream? {
    guard id != 0, let pointer = nghttp2_session_get_stream_user_data(library, id) else { return nil }
    return Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
  }
}
