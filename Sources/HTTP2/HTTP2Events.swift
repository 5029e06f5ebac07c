import HTTPCodec

/// What a session tells its connection. Called from within `receive`, `send` and `connectionLost`; the connection may act
/// on the session from inside (respond, write, reset, …), but not call those three again.
///
/// For each stream, in this order: one `requestArrived` or `requestRefused` (server), any number of interim and one final
/// `responseArrived` (client), `dataArrived`s, one `messageEnded` unless the stream broke, one `streamClosed`. After
/// `streamClosed`, and after a `reset` of ours, no event comes for the stream and it must not be used any more.
public protocol HTTP2Events: AnyObject {
  /// A request's head is in `stream.request`, canonical. `ends`: it has no body (`messageEnded` does not follow).
  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session)
  /// A request that is to be answered with `error.status` without being forwarded; `stream.request` is incomplete.
  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session)
  /// A response's head is in `stream.response`. Interim ones (`isInterim`) come before the final one. `ends`: it has no
  /// body and no trailers (`messageEnded` does not follow).
  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session)
  /// Body bytes, valid during the call. Each byte has to be given back by `consumed` once it was passed on.
  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session)
  /// The peer's message is complete; `trailers`, if any, are valid during the call.
  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session)
  /// The stream is gone. Told before a complete message, it means the message was cut.
  func streamClosed(_ stream: HTTP2Stream, _ end: HTTP2StreamEnd, on session: HTTP2Session)
  /// A writer that was told to pause may write again.
  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session)
  /// The peer takes no new streams; those above `lastStream` were closed as not processed before this call.
  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session)
  /// The peer's settings changed: `availableStreams` and `peerAllowsExtendedConnect` may differ.
  func settingsReceived(on session: HTTP2Session)
  /// The answer to `ping`.
  func pongReceived(_ payload: UInt64, on session: HTTP2Session)
}

public enum HTTP2Role: Hashable, Sendable { case server, client }
