/// What one HTTP/1 message may take. Every field has its unit and the reason for its default.
public struct MessageLimits: Hashable, Sendable {
  /// Bytes of a head: start line, field lines and the empty line. Envoy's default of 60 KiB; over it 431.
  public var headBytes = 60 * 1024
  /// Field lines in a head, and in trailers. Envoy's default of 100; over it 431.
  public var fields = 100
  /// Bytes of the request line. Long enough for any browser, and never more than `headBytes`.
  public var startLineBytes = 16 * 1024
  /// Bytes of one chunk-size line with its extensions: extensions carry nothing we use, and feed slow attacks.
  public var chunkLineBytes = 256
  /// Bytes of one chunk: 2^31−1, so the size never reaches the sign bit of any reader behind us.
  public var chunkBytes: UInt64 = 0x7FFF_FFFF
  /// Bytes of a trailer section: trailers carry checksums and gRPC status.
  public var trailerBytes = 8 * 1024

  public init() {}
}
