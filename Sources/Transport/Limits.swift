/// Bounds of this target's loop, sockets, TLS and certificates. What a peer can make grow is counted here.
public enum TransportLimits {
  /// Events taken from the kernel in one turn of a loop; more wait for the next turn, so timers and jobs are not starved.
  public static let loopEventsPerTurn = 256
  /// Posted jobs run in one turn of a loop, so a flood of posts does not starve sockets and timers.
  public static let loopJobsPerTurn = 256
  /// Connections the kernel queues before `accept`; above the usual `somaxconn` (4096) it clamps.
  public static let listenerBacklog: Int32 = 4096
  /// Buffers one `writev` hands over; Linux refuses more than 1024 (`UIO_MAXIOV`), and more than 64 gain nothing.
  public static let buffersPerWrite = 64
  /// Free bytes of the heap that are not worth giving back: the next burst of traffic needs them again.
  public static let freeHeapBytesKept = 2 * 1024 * 1024
  /// Bytes of a Unix socket's path (`sun_path` less its NUL).
  public static let unixPathBytesMax = 107

  /// Bytes of one DER certificate; ours have about 600, RSA 4096 with long names about 2,500.
  public static let certificateBytesMax = 16 * 1024
  /// Bytes of one DER certificate request; ours have about 300.
  public static let certificateRequestBytesMax = 8 * 1024
  /// Bytes of one PEM file of a key or of certificates; the bundle of 1,000 nodes has about 800 KiB.
  public static let pemBytesMax = 4 * 1024 * 1024
  /// Certificates in one trust bundle: one for each CA-capable node, twice during a rotation.
  public static let trustBundleCertificatesMax = 4096
  /// Revocation lists in one file: one for each authority that may stand in a chain.
  public static let revocationListsMax = 256
  /// Certificates of a peer's chain, leaf included: leaf, node CA, operator's intermediate, and room for two more.
  public static let chainCertificatesMax = 5
  /// Bytes of the certificate message OpenSSL accepts from a peer.
  public static let peerChainBytesMax = chainCertificatesMax * certificateBytesMax
  /// Seconds a new certificate is back-dated, for peers whose clock is behind (Istio: 2 minutes).
  public static let certificateBackdateSeconds: Int64 = 120
  /// Seconds for which a TLS session may be resumed: short, so that a change of certificates is seen soon.
  public static let sessionSeconds = 3600
  /// Tickets a server hands out on one connection: a client that comes back by two connections at once has one for each.
  public static let ticketsPerConnection = 2
  /// Sessions that a server's context keeps for clients which take no tickets; a few KiB each.
  public static let sessionsWithoutTicket = 1024
  /// Servers whose sessions one client context remembers, and sessions of each: a server sends about two a connection.
  public static let resumableServers = 1024
  public static let sessionsPerServer = 4
  /// Bits of an RSA key below which it is refused (NIST SP 800-131A).
  public static let rsaBitsMin = 2048
  /// Bytes of a host name (RFC 1035 §3.1).
  public static let hostNameBytesMax = 255
}
