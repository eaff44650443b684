//! Verifies an export without a server.

use std::path::Path;

use super::lines::{ExportLine, key_text};
use super::verify::{Trust, VerificationStop, each_line};
use crate::cli::Failure;
use crate::cli::print::note;
use crate::domain::{ChainCheck, ChainFault, ChainHash, PlaceKind, SignedPlace, TenantId};

/// Verifies an export.
pub(super) fn verify_file(
    path: &Path,
    trust: &Trust,
) -> Result<(String, Result<ChainCheck, ChainFault>), Failure> {
    let mut reading = FileCheck { trust, tenant: None, check: None, fault: None, head: None };
    each_line(path, "--file", |line, number| {
        if reading.fault.is_some() {
            return Ok(());
        }
        let at = |what: &dyn std::fmt::Display| {
            Failure::usage(format!("--file {}: line {number}: {what}", path.display()))
        };
        // A line that is no JSON is a changed line of this file, and no fault of the log.
        let line = ExportLine::parse(line).map_err(|what| at(&what))?;
        match reading.line(line) {
            Ok(()) => Ok(()),
            Err(VerificationStop::Failure(failure)) => Err(at(&failure.into_parts().1)),
            Err(VerificationStop::Fault(fault)) => {
                reading.fault = Some(fault);
                Ok(())
            }
        }
    })?;
    let FileCheck { tenant, check, fault, head, .. } = reading;
    let (Some(tenant), Some(mut check)) = (tenant, check) else {
        return Err(Failure::usage(format!("--file {} has no events", path.display())));
    };
    let result = match fault {
        Some(fault) => Err(fault),
        None => check.end(head.as_ref().map(|head| head.number)),
    };
    match &head {
        None => note("the file has no signed head: its end is not proven"),
        Some(head) if head.number < check.last() => {
            note(&format!("the last signed head of the file is at event {}", head.number));
        }
        Some(head) if trust.keys.is_empty() => note(&format!(
            "the heads are signed with the key {}; compare it with one that you know, or pass \
             --key",
            key_text(&head.public_key)
        )),
        Some(_) => {}
    }
    Ok((tenant.to_string(), result.map(|()| check)))
}

/// Follows the lines of an export.
struct FileCheck<'a> {
    trust: &'a Trust,
    tenant: Option<TenantId>,
    check: Option<ChainCheck>,
    fault: Option<ChainFault>,
    /// The last head.
    head: Option<SignedPlace>,
}

impl FileCheck<'_> {
    fn line(&mut self, line: ExportLine) -> Result<(), VerificationStop> {
        let tenant = match &line {
            ExportLine::Start { tenant, .. } | ExportLine::Event { tenant, .. } => tenant,
            ExportLine::Signed(place) => &place.tenant,
        };
        match &self.tenant {
            None => self.tenant = Some(tenant.clone()),
            Some(known) if known == tenant => {}
            Some(known) => {
                let what = format!("is of the tenant {tenant}, and the file is of {known}");
                return Err(Failure::usage(what).into());
            }
        }
        match line {
            ExportLine::Start { number, hash, .. } if self.check.is_none() => {
                note(&format!("the file begins after event {number}; that place is not signed"));
                self.begin(number, hash)
            }
            ExportLine::Start { .. } => {
                Err(Failure::usage("a start must be the first line").into())
            }
            ExportLine::Signed(place) => {
                let place = self.trust.place(place)?;
                match (place.kind, &mut self.check) {
                    (PlaceKind::Checkpoint, None) => self.begin(place.number, place.hash),
                    (PlaceKind::Head, None) => {
                        // A file with a head alone.
                        self.begin(0, ChainHash::START)?;
                        self.head(place)
                    }
                    (PlaceKind::Head, Some(_)) => self.head(place),
                    (PlaceKind::Checkpoint, Some(_)) => {
                        Err(Failure::usage("a checkpoint must be the first line").into())
                    }
                }
            }
            ExportLine::Event { record, .. } => {
                if self.check.is_none() {
                    self.begin(0, ChainHash::START)?;
                }
                match &mut self.check {
                    Some(check) => Ok(check.add(record)?),
                    None => Ok(()),
                }
            }
        }
    }

    fn head(&mut self, place: SignedPlace) -> Result<(), VerificationStop> {
        if let Some(check) = &mut self.check {
            check.expect(place.clone())?;
        }
        self.head = Some(place);
        Ok(())
    }

    fn begin(&mut self, number: i64, hash: ChainHash) -> Result<(), VerificationStop> {
        let mut check = ChainCheck::after(number, hash);
        let tenant = self.tenant.as_ref().map(ToString::to_string).unwrap_or_default();
        for head in self.trust.heads.get(&tenant).into_iter().flatten() {
            check.expect(head.clone())?;
        }
        self.check = Some(check);
        Ok(())
    }
}
