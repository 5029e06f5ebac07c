/// Bounds of what a node asks of servers outside the mesh, each with its unit and reason.
public enum FetchLimits {
  /// For name, connections, handshakes, redirects and answer together (Istio, `remoteTimeout`).
  public static let time: Duration = .seconds(10)
  /// Redirects of one question; a bundle behind a content network takes one.
  static let redirectsMax = 3
  /// Bytes of the answer's heads, interim ones included, and of the framing of its body.
  static let overheadBytesMax = 128 * 1024
  /// Bytes of an error's reason, which may hold words of the server.
  static let reasonBytesMax = 300
  /// Bytes taken from TLS at a time.
  static let readBytes = 16 * 1024

  /// Bytes of one SPIFFE bundle: 128 authorities of RSA 4096 with their keys have about 500 KiB.
  public static let bundleBytesMax = 1 << 20
  /// Authorities of one bundle: a trust domain has one or two, a mesh whose nodes all sign has one for each.
  static let bundleAuthoritiesMax = 128
  /// Nesting and values of the document; it has three levels, and some ten values a key.
  static let bundleDepthMax = 16
  static let bundleValuesMax = 32_768

  /// How often a bundle is asked for that says nothing of it (SPIFFE Federation 4.1), and how often at most and at least: a
  /// hint of a year must not keep a withdrawn authority trusted for so long.
  static let bundleInterval: Duration = .seconds(300)
  static let bundleIntervals: ClosedRange<Duration> = .seconds(60) ... .seconds(3600)
  /// How long after a first failure a bundle is asked for again, and after many.
  static let bundleBackoffs: ClosedRange<Duration> = .seconds(1) ... .seconds(60)
}
