import MeshConfig

extension WorkloadRequest {
  /// Takes what nobody has said from a WorkloadGroup (Istio, WorkloadGroup). A probe of the group is made on the workload's own
  /// port and address: the node asks nobody else.
  mutating func fill(from group: WorkloadGroup) throws {
    for (key, value) in group.labels.merging(group.template.labels, uniquingKeysWith: { $1 }) where labels[key] == nil {
      labels[key] = value
    }
    takeTemplate(group.template)
    guard let probe = group.probe else { return }
    if healthPath == nil, healthGRPC == nil, healthCommand == nil { try take(probe.check) }
    healthDelaySeconds = healthDelaySeconds ?? probe.initialDelay.inWholeSeconds
    healthPeriodSeconds = healthPeriodSeconds ?? probe.period.inWholeSeconds
    healthTimeoutSeconds = healthTimeoutSeconds ?? probe.timeout.inWholeSeconds
    healthSuccesses = healthSuccesses ?? max(1, probe.successThreshold)
    healthFailures = healthFailures ?? max(1, probe.failureThreshold)
  }

  private mutating func takeTemplate(_ template: WorkloadEntry) {
    if serviceAccount == nil, !template.serviceAccount.isEmpty { serviceAccount = template.serviceAccount }
    if locality == nil, !template.locality.isEmpty { locality = template.locality }
    if weight == 1 { weight = UInt32(clamping: max(1, template.weight)) }
    let network = "topology.istio.io/network"
    if !template.network.isEmpty, labels[network] == nil { labels[network] = template.network }
    for written in template.ports {
      let number = UInt16(clamping: written.value)
      if number == port {
        portName = portName ?? written.key
      } else {
        otherPorts = (otherPorts ?? [:]).merging([written.key: number]) { own, _ in own }
      }
    }
  }

  private mutating func take(_ check: WorkloadGroup.Check) throws {
    func refuse(_ what: String) -> AdminFailure {
      AdminFailure(
        code: "invalid", message: "the probe of the WorkloadGroup \(what): say another with --health-path or --health-exec")
    }
    func own(_ asked: UInt16) throws {
      guard asked == port else { throw refuse("asks port \(asked), and the workload listens on \(port)") }
    }
    switch check {
    case .http(let path, let port, let host, let isHTTPS, let headers):
      try own(port)
      guard !isHTTPS, headers.isEmpty, host.isEmpty || host == address else {
        throw refuse("uses HTTPS, header fields or another host")
      }
      healthPath = path
    case .tcp(let host, let port):
      try own(port)
      guard host.isEmpty || host == address else { throw refuse("asks another host") }
    case .grpc(let port, let service):
      try own(port)
      healthGRPC = service
    case .command(let command): healthCommand = command
    }
  }
}

extension Duration {
  /// nil for zero, which stands for no time of its own.
  fileprivate var inWholeSeconds: Double? { self == .zero ? nil : Double(components.seconds) }
}
