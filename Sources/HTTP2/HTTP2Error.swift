/// Error codes of RFC 9113 7.
public struct HTTP2Code: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let noError = HTTP2Code(rawValue: 0)
  public static let protocolError = HTTP2Code(rawValue: 1)
  public static let internalError = HTTP2Code(rawValue: 2)
  public static let flowControlError = HTTP2Code(rawValue: 3)
  public static let settingsTimeout = HTTP2Code(rawValue: 4)
  public static let streamClosed = HTTP2Code(rawValue: 5)
  public static let frameSizeError = HTTP2Code(rawValue: 6)
  public static let refusedStream = HTTP2Code(rawValue: 7)
  public static let cancel = HTTP2Code(rawValue: 8)
  public static let compressionError = HTTP2Code(rawValue: 9)
  public static let connectError = HTTP2Code(rawValue: 10)
  public static let enhanceYourCalm = HTTP2Code(rawValue: 11)
  public static let inadequateSecurity = HTTP2Code(rawValue: 12)
  public static let http11Required = HTTP2Code(rawValue: 13)

  private static let names = [
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
  ]
  public var description: String { Self.names.indices.contains(Int(rawValue)) ? Self.names[Int(rawValue)] : "\(rawValue)" }
}

/// Why a connection ended by our decision: the code its GOAWAY carries, and the token that counters and logs show.
public struct HTTP2Error: Error, Hashable, Sendable, CustomStringConvertible {
  public let code: HTTP2Code
  public let reason: Reason

  public enum Reason: String, Hashable, Sendable, CaseIterable {
    /// Frames, HPACK or flow control against RFC 9113; `code` says which.
    case protocolViolation = "http2_protocol_violation"
    /// More streams reset, by the peer or through its fault, than the budget allows (CVE-2023-44487, CVE-2025-8671).
    case tooManyResets = "http2_too_many_resets"
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE, CONTINUATION, empty or unknown frames without work (CVE-2019-9511 to 9518).
    case tooManyControlFrames = "http2_too_many_control_frames"
    /// A header section in too many CONTINUATION frames (CVE-2024-28182).
    case tooManyContinuations = "http2_too_many_continuations"
    /// The peer does not read the acknowledgements it provokes.
    case tooManyAcknowledgements = "http2_too_many_acknowledgements"
    /// The codec library gave up: memory, or a state it calls fatal.
    case codecFailure = "http2_codec_failure"
  }

  public init(_ reason: Reason, code: HTTP2Code) {
    self.reason = reason
    self.code = code
  }

  public var description: String { "\(reason.rawValue) (\(code))" }
}

/// How a stream ended.
public struct HTTP2StreamEnd: Hashable, Sendable {
  /// `noError` when both sides ended the stream properly.
  public let code: HTTP2Code
  /// The peer did not look at the request: it is safe to send elsewhere, whatever its method (RFC 9113 8.7).
  public let isNotProcessed: Bool
}
