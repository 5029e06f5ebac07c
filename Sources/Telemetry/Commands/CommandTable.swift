import Primitives

/// What is wrong with an argument.
struct CommandArgumentError: Error {
  let reason: String
  var hint: String?
}

// The operators of Envoy 1.37, by name: its built-in formatters, and the extensions that Istio's proxy has.
extension CommandOperator {
  enum Argument { case optional, required }

  /// An operator that takes an argument.
  struct Row: Sendable {
    let argument: Argument
    let hasLength: Bool
    let make: @Sendable (String) throws(CommandArgumentError) -> CommandOperator

    init(
      _ argument: Argument, hasLength: Bool = true,
      _ make: @escaping @Sendable (String) throws(CommandArgumentError) -> CommandOperator
    ) {
      self.argument = argument
      self.hasLength = hasLength
      self.make = make
    }

    static func absent(_ argument: Argument) -> Row { Row(argument) { _ in .absent } }
  }

  /// Every name that means something.
  static let names = plain.keys.sorted() + rows.keys.sorted()

  /// Operators without an argument.
  static let plain: [String: CommandOperator] = {
    var all: [String: CommandOperator] = [
      "PROTOCOL": .protocol, "UPSTREAM_PROTOCOL": .upstreamProtocol, "RESPONSE_CODE": .responseCode,
      "RESPONSE_FLAGS": .responseFlags(isLong: false), "RESPONSE_FLAGS_LONG": .responseFlags(isLong: true),
      "CONNECTION_TERMINATION_DETAILS": .terminationDetails, "UPSTREAM_TRANSPORT_FAILURE_REASON": .transportFailure,
      "GRPC_STATUS_NUMBER": .grpcStatus(.number), "UPSTREAM_REQUEST_ATTEMPT_COUNT": .attempts,
      "ROUTE_NAME": .routeName, "UPSTREAM_CLUSTER": .upstreamCluster, "UPSTREAM_CLUSTER_RAW": .upstreamCluster,
      "UPSTREAM_HOST_NAME": .upstreamName(hasPort: true), "UPSTREAM_HOST_NAME_WITHOUT_PORT": .upstreamName(hasPort: false),
      "HOSTNAME": .hostName, "TRACE_ID": .traceID, "STREAM_ID": .streamID, "CONNECTION_ID": .connectionID,
      "UNIQUE_ID": .uniqueID, "ACCESS_LOG_TYPE": .logType,
      "REQUEST_HEADERS_BYTES": .headBytes(.request), "RESPONSE_HEADERS_BYTES": .headBytes(.response),
      "RESPONSE_TRAILERS_BYTES": .headBytes(.trailers), "BYTES_RECEIVED": .bytesReceived, "BYTES_SENT": .bytesSent,
      "BYTES_RETRANSMITTED": .zero, "PACKETS_RETRANSMITTED": .zero,
      "UPSTREAM_WIRE_BYTES_RECEIVED": .wireBytes(.upstreamReceived), "UPSTREAM_WIRE_BYTES_SENT": .wireBytes(.upstreamSent),
      "DOWNSTREAM_WIRE_BYTES_RECEIVED": .wireBytes(.clientReceived), "DOWNSTREAM_WIRE_BYTES_SENT": .wireBytes(.clientSent),
      "DOWNSTREAM_HEADER_BYTES_RECEIVED": .headerBytes(.clientReceived),
      "DOWNSTREAM_HEADER_BYTES_SENT": .headerBytes(.clientSent),
      "UPSTREAM_TLS_VERSION": .tls(.upstream, .version), "UPSTREAM_TLS_CIPHER": .tls(.upstream, .cipher),
      "UPSTREAM_TLS_GROUP": .tls(.upstream, .group), "UPSTREAM_TLS_SESSION_ID": .tls(.upstream, .sessionID),
      "UPSTREAM_SERVER_NAME": .tls(.upstream, .serverName), "DOWNSTREAM_TLS_VERSION": .tls(.client, .version),
      "DOWNSTREAM_TLS_CIPHER": .tls(.client, .cipher), "DOWNSTREAM_TLS_GROUP": .tls(.client, .group),
      "DOWNSTREAM_TLS_SESSION_ID": .tls(.client, .sessionID),
    ]
    all.merge(durations) { first, _ in first }
    all.merge(addresses) { first, _ in first }
    all.merge(certificates) { first, _ in first }
    for name in absentNames { all[name] = .absent }
    return all
  }()

  private static let durations: [String: CommandOperator] = [
    "DURATION": .duration(.requestBegan, .now, .milliseconds),
    "REQUEST_DURATION": .duration(.requestBegan, .requestEnded, .milliseconds),
    "REQUEST_TX_DURATION": .duration(.requestBegan, .sendEnded, .milliseconds),
    "RESPONSE_DURATION": .duration(.requestBegan, .responseBegan, .milliseconds),
    "RESPONSE_TX_DURATION": .duration(.responseBegan, .answerEnded, .milliseconds),
    "UPSTREAM_CONNECTION_POOL_READY_DURATION": .duration(.tryBegan, .sendBegan, .milliseconds),
  ]

  /// Addresses whole, and their ports.
  private static let addresses: [String: CommandOperator] = {
    var all: [String: CommandOperator] = ["UPSTREAM_HOST": .address(.upstream, .whole)]
    for (name, place) in places {
      all["\(name)_ADDRESS"] = .address(place, .whole)
      all["\(name)_PORT"] = .address(place, .port)
    }
    return all
  }()

  private static let places: [(String, Place)] = [
    ("DOWNSTREAM_REMOTE", .client), ("DOWNSTREAM_DIRECT_REMOTE", .clientDirect), ("DOWNSTREAM_LOCAL", .clientLocal),
    ("DOWNSTREAM_DIRECT_LOCAL", .clientLocal), ("UPSTREAM_REMOTE", .upstream), ("UPSTREAM_LOCAL", .upstreamLocal),
  ]

  private static let certificates: [String: CommandOperator] = {
    let both: [(String, CertificateFact)] = [
      ("URI_SAN", .uris), ("DNS_SAN", .dnsNames), ("IP_SAN", .addresses), ("EMAIL_SAN", .emails), ("SUBJECT", .subject),
    ]
    let peers: [(String, CertificateFact)] = [
      ("ISSUER", .issuer), ("SERIAL", .serial), ("FINGERPRINT_256", .sha256), ("FINGERPRINT_1", .sha1), ("CERT", .pem),
      ("CHAIN_SERIALS", .chainSerials), ("CHAIN_FINGERPRINTS_256", .chainSHA256), ("CHAIN_FINGERPRINTS_1", .chainSHA1),
    ]
    var all: [String: CommandOperator] = [:]
    for (name, fact) in both {
      all["DOWNSTREAM_PEER_\(name)"] = .certificate(.client, .peer, fact)
      all["DOWNSTREAM_LOCAL_\(name)"] = .certificate(.client, .own, fact)
    }
    for (name, fact) in peers { all["DOWNSTREAM_PEER_\(name)"] = .certificate(.client, .peer, fact) }
    for (name, fact) in both.prefix(3) {
      all["UPSTREAM_PEER_\(name)"] = .certificate(.upstream, .peer, fact)
      all["UPSTREAM_LOCAL_\(name)"] = .certificate(.upstream, .own, fact)
    }
    for (name, fact) in [("SUBJECT", CertificateFact.subject), ("ISSUER", .issuer), ("CERT", .pem)] {
      all["UPSTREAM_PEER_\(name)"] = .certificate(.upstream, .peer, fact)
    }
    return all
  }()

  /// Of QUIC, of other filters than there are here, and of what nobody keeps.
  private static let absentNames = [
    "CUSTOM_FLAGS", "DOWNSTREAM_DETECTED_CLOSE_TYPE", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_HANDSHAKE_DURATION", "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN", "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_OTHERNAME_SAN", "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "FILTER_CHAIN_NAME", "LOCAL_REPLY_BODY",
    "ROUNDTRIP_DURATION", "SPAN_ID", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT", "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", "UPSTREAM_DETECTED_CLOSE_TYPE", "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT", "UPSTREAM_HOSTS_ATTEMPTED", "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED", "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", "VIRTUAL_CLUSTER_NAME",
  ]

  /// Operators with an argument.
  static let rows: [String: Row] = {
    var all: [String: Row] = [
      "PATH": Row(.optional, path), "QUERY_PARAM": Row(.required) { name in .queryParameter(Array(name.utf8)) },
      "QUERY_PARAMS": Row(.optional) { form throws(CommandArgumentError) in
        .query(isDecoded: try choice(form, of: QueryForm.allCases, or: .original) == .decoded)
      },
      "RESPONSE_CODE_DETAILS": Row(.optional, hasLength: false) { how in
        .responseCodeDetails(keepsBlanks: how == "ALLOW_WHITESPACES")
      },
      "GRPC_STATUS": Row(.optional, hasLength: false) { form throws(CommandArgumentError) in
        .grpcStatus(try choice(form, of: GRPCStatusForm.allCases, or: .camel))
      },
      "REQUESTED_SERVER_NAME": Row(.optional, serverName), "COMMON_DURATION": Row(.required, hasLength: false, duration),
      "COALESCE": Row(.required, coalesce),
      "DYNAMIC_METADATA": .absent(.required), "CLUSTER_METADATA": .absent(.required), "UPSTREAM_METADATA": .absent(.required),
      "METADATA": .absent(.required), "FILTER_STATE": .absent(.required), "UPSTREAM_FILTER_STATE": .absent(.required),
      // Whoever may write configuration would read the environment of every node, and what secrets it holds.
      "ENVIRONMENT": .absent(.required), "CEL": .absent(.required), "TYPED_CEL": .absent(.required),
    ]
    let messages: [(String, Message)] = [
      ("REQ", .request), ("REQUEST_HEADER", .request), ("STREAM_INFO_REQ", .request), ("RESP", .response),
      ("RESPONSE_HEADER", .response), ("TRAILER", .trailers), ("RESPONSE_TRAILER", .trailers),
    ]
    for (name, message) in messages {
      all[name] = Row(.required) { names throws(CommandArgumentError) in try field(message, names, hasQuery: true) }
    }
    all["REQ_WITHOUT_QUERY"] = Row(.required) { names throws(CommandArgumentError) in
      try field(.request, names, hasQuery: false)
    }
    for (name, moment) in [("START_TIME", Moment.started), ("EMIT_TIME", .written)] {
      all[name] = time { .time(moment, $0, isLocal: false) }
      all["\(name)_LOCAL"] = time { .time(moment, $0, isLocal: true) }
    }
    for (name, side) in [("DOWNSTREAM", Side.client), ("UPSTREAM", .upstream)] {
      all["\(name)_PEER_CERT_V_START"] = time { .certificate(side, .peer, .notBefore($0)) }
      all["\(name)_PEER_CERT_V_END"] = time { .certificate(side, .peer, .notAfter($0)) }
    }
    for (name, place) in places {
      all["\(name)_ADDRESS_WITHOUT_PORT"] = Row(.optional, hasLength: false) { bits throws(CommandArgumentError) in
        .address(place, .address(bits: try networkBits(bits)))
      }
    }
    return all
  }()
}
