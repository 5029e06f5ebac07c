/// Why a message was refused: the status a server answers with, and the token that logs show.
public struct MessageError: Error, Hashable, Sendable, CustomStringConvertible {
  /// 400, 413, 414, 426, 431, 501 or 505. A client that meets it in a response reports 502 instead.
  public let status: Int
  public let reason: Reason

  public enum Reason: String, Hashable, Sendable, CaseIterable {
    case bareCarriageReturnOrLineFeed = "bare_cr_or_lf"
    case malformedStartLine = "malformed_start_line"
    case startLineTooLong = "start_line_too_long"
    case headTooLarge = "headers_too_large"
    case tooManyFields = "too_many_headers"
    case malformedFieldLine = "malformed_header_line"
    case malformedFieldName = "malformed_header_name"
    case malformedFieldValue = "malformed_header_value"
    case underscoreInName = "unexpected_underscore"
    case lowVersion = "low_version"
    case unsupportedVersion = "unsupported_version"
    case malformedTarget = "malformed_target"
    case fragmentInTarget = "fragment_in_target"
    case nulInPath = "nul_in_path"
    case missingHost = "missing_host"
    case repeatedHost = "repeated_host"
    case malformedHost = "malformed_host"
    case malformedContentLength = "malformed_content_length"
    case repeatedContentLength = "repeated_content_length"
    case lengthAndTransferEncoding = "length_and_transfer_encoding"
    case malformedTransferEncoding = "malformed_transfer_encoding"
    case unknownTransferCoding = "unknown_transfer_coding"
    case transferEncodingInHTTP10 = "transfer_encoding_in_http_1_0"
    case framingNominated = "framing_header_in_connection"
    case malformedConnection = "malformed_connection_header"
    case unknownExpectation = "unknown_expectation"
    case upgradeWithBody = "upgrade_with_body"
    case upgradeToHTTP = "upgrade_to_http"
    case malformedChunkSize = "malformed_chunk_size"
    case chunkTooLarge = "chunk_too_large"
    case malformedChunkEnd = "malformed_chunk_end"
    case malformedTrailer = "malformed_trailer"
    case trailersTooLarge = "trailers_too_large"
    case malformedStatusLine = "malformed_status_line"
    case bodyTooLarge = "body_too_large"
    case endedEarly = "ended_early"
    case malformedBase64 = "malformed_base64"
    case extraBytes = "extra_bytes"
    case malformedPseudoHeader = "malformed_pseudo_header"
    case connectionSpecificField = "connection_specific_header"
    case authorityMismatch = "authority_and_host_differ"
    case lengthMismatch = "content_length_mismatch"
  }

  public init(_ reason: Reason, status: Int = 400) {
    self.reason = reason
    self.status = status
  }

  public var description: String { "\(reason.rawValue) (status \(status))" }
}
