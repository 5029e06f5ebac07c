import Primitives

/// Bounds on everything the membership and registry cores read, keep and send; each with its unit and reason.
public enum MembershipLimits {
  // MARK: Members

  /// Members known at once, tombstones included, unless `SWIMConfiguration.membersMax` says otherwise: 64 bytes each, besides the
  /// records, and one digest of all has to pass in a moment.
  public static let membersMax = 4096
  /// Seeds taken from the cluster file or a join token.
  public static let seedsMax = 256
  /// Bytes of a textual IP address: 45 for IPv6, and a scope.
  public static let addressBytesMax = 64
  /// Bytes of `region/zone/subzone`: three labels and their separators.
  public static let localityBytesMax = 191
  /// Bytes of metadata in a member record: it rides on datagrams.
  public static let metadataBytesMax = 64
  /// Highest incarnation taken from the wire: start times in milliseconds use 41 bits, and raising must never overflow.
  public static let incarnationMax: UInt64 = 1 << 53
  /// Incarnations an owner always keeps free above a claim it follows, so that it can go on refuting.
  public static let incarnationReserve: UInt64 = 1 << 32
  /// How far above the incarnation heard from its owner a third party's claim may be: many refutations, not a restart.
  public static let hearsayIncarnationsAhead: UInt64 = 4096

  // MARK: Messages between members

  /// Bytes of an encoded datagram before sealing: below every path's MTU (IPv6 minimum 1280) with room for headers and tag.
  public static let datagramBytesMax = 1200
  /// Rumors read from one message; a datagram's bytes hold fewer.
  public static let rumorsPerMessageMax = 64
  /// Claims in one `synchronise` message; a larger table is sent as several, each of use by itself.
  public static let claimsPerMessageMax = 256
  /// Bytes of an encoded message on a link: `claimsPerMessageMax` claims of the largest form.
  public static let streamBytesMax = 128 * 1024
  /// Probes in flight at once: the regular one, verifications of suspicions, and those after a link went down.
  public static let probesMax = 64
  /// Indirect probes carried out for others at once; more are refused with a negative acknowledgement.
  public static let relaysMax = 128
  /// Accusers remembered for a suspicion: more change nothing.
  public static let accusersMax = 16

  // MARK: Rows of the registry

  /// Bytes of one row's signed payload: a node row carries a certificate chain, a workload row its labels and ports.
  public static let payloadBytesMax = 16 * 1024
  /// Bytes of a signature: ECDSA P-256 needs 72, RSA 4096 needs 512.
  public static let signatureBytesMax = 512
  /// Bytes of a namespace or row name: a DNS label.
  public static let rowNameBytesMax = DNSLabel.bytesMax
  /// Labels of a workload, as many as Kubernetes users attach at the most.
  public static let labelsMax = 64
  /// Bytes of a label key (Kubernetes: prefix 253, `/`, name 63).
  public static let labelKeyBytesMax = 317
  /// Bytes of a label value (Kubernetes: 63).
  public static let labelValueBytesMax = 63
  /// Ports of a workload.
  public static let portsMax = 64
  /// Bytes of a port's protocol name.
  public static let protocolBytesMax = 32
  /// Highest load-balancing weight, as Envoy's endpoint weights are used by Istio.
  public static let weightMax: UInt32 = 1_000_000
  /// Certificates in a node row: leaf, node CA, an operator's root chain.
  public static let certificatesMax = 6
  /// Bytes of one certificate in DER.
  public static let certificateBytesMax = 4096

  /// Rows one owner may have, tombstones included: one host runs hundreds of workloads, not thousands.
  public static let rowsPerOwnerMax = 2048
  /// Bytes one owner's rows may take.
  public static let bytesPerOwnerMax = 2 * 1024 * 1024
  /// Keys of changed rows that are remembered at least: a reader that lags by more compares everything.
  public static let recentChangesMax = 2048
  /// Owners known to the registry: all members and the recently forgotten.
  public static let ownersMax = 4096
  /// Bytes of all rows together: beyond it new rows are refused and said so.
  public static let registryBytesMax = 256 * 1024 * 1024

  // MARK: Messages of the registry

  /// Rows in one message.
  public static let rowsPerMessageMax = 256
  /// Bytes of rows in one message: a page, so urgent frames pass between two.
  public static let pageBytesMax = 64 * 1024
  /// Owners in one digest message; a larger registry is compared in several.
  public static let digestOwnersMax = 512
  /// Owners asked for in one request.
  public static let requestOwnersMax = 64
}
