//! `AccessService`.

use futures_util::future::join_all;
use tonic::{Request, Response, Status};

use super::{Adapter, convert};
use crate::error::Error;
use crate::proto::access::access_service_server::AccessService;
use crate::proto::access::{
    BatchCheckAccessRequest, BatchCheckAccessResponse, CheckAccessRequest, CheckAccessResponse,
};

/// The maximum size of a batch answer, which has no pages. Clients accept 4 MiB by default.
const MAX_ANSWERS: usize = 4_000_000;

#[tonic::async_trait]
impl AccessService for Adapter {
    async fn check_access(
        &self,
        request: Request<CheckAccessRequest>,
    ) -> Result<Response<CheckAccessResponse>, Status> {
        let caller = self.caller(&request).await?;
        caller.require_verifier()?;
        let (token, question) = convert::access::question(request.into_inner(), "")?;
        let access = self.service.access.check(&caller, &token, &question).await?;
        Ok(Response::new(convert::access::answer(access)))
    }

    async fn batch_check_access(
        &self,
        request: Request<BatchCheckAccessRequest>,
    ) -> Result<Response<BatchCheckAccessResponse>, Status> {
        let caller = self.caller(&request).await?;
        caller.require_verifier()?;
        let questions = convert::access::questions(request.into_inner())?;
        let answers = questions
            .iter()
            .map(|(token, question)| self.service.access.check(&caller, token, question));
        let answers: Result<Vec<_>, _> = join_all(answers).await.into_iter().collect();
        let responses: Vec<_> = answers?.into_iter().map(convert::access::answer).collect();
        if responses.iter().map(convert::element_len).sum::<usize>() > MAX_ANSWERS {
            let fault = "is answered with more than 4 MB: ask fewer questions at once";
            return Err(Error::invalid("requests", fault).into());
        }
        Ok(Response::new(BatchCheckAccessResponse { responses }))
    }
}
